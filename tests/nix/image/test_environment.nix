# The variables in an image: those of dockerfile_commands win, and their holes are filled with ours.
{ nix }:
let
  environment =
    set:
    nix.environment {
      underneath.environment.LD_LIBRARY_PATH = "/cuda";
      spec.gpu = false;
      inherit set;
    };
  hole = variable: { inherit variable; };
in
{
  "a variable of the user's wins over ours, and leaves the others" = {
    expr = {
      inherit (environment { LANG = "de_DE.UTF-8"; }) LANG HOME;
    };
    expected = {
      LANG = "de_DE.UTF-8";
      HOME = "/home/nonroot";
    };
  };
  "a hole is filled with our value, or with nothing" = {
    expr = {
      inherit
        (environment {
          LD_LIBRARY_PATH = [
            "/own:"
            (hole "LD_LIBRARY_PATH")
          ];
          X = [
            "a"
            (hole "NOT_THERE")
            "b"
          ];
        })
        LD_LIBRARY_PATH
        X
        ;
    };
    expected = {
      LD_LIBRARY_PATH = "/own:/cuda";
      X = "ab";
    };
  };
  "what stands in place of a variable depends on whether it is empty" = {
    expr =
      let
        made = environment {
          A = [ (hole "HOME" // { if-empty = "none"; }) ];
          B = [ (hole "NOT_THERE" // { if-empty = [ (hole "HOME") ]; }) ];
          C = [
            (
              hole "HOME"
              // {
                if-set = [
                  ":"
                  (hole "HOME")
                ];
              }
            )
          ];
          D = [ (hole "NOT_THERE" // { if-set = "x"; }) ];
        };
      in
      [
        made.A
        made.B
        made.C
        made.D
      ];
    expected = [
      "/home/nonroot"
      "/home/nonroot"
      ":/home/nonroot"
      ""
    ];
  };
}
