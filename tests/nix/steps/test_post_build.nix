# post_build's result in an image.
{ nix }:
let
  stored =
    size:
    let
      made = nix.scope.bind {
        spec = null;
        locked.post-build = {
          inherit size;
          sees = builtins.concatStringsSep "" (builtins.genList (_: "0") 64);
        };
        model = null;
        bigFiles = [ ];
        underneath = null;
        buildRoot = {
          tree = null;
          python = null;
        };
        runner.step = _: "the result";
        runByImagePython = _: "the view";
      } nix.postBuild;
    in
    (builtins.head (builtins.head made.contents).inputs).stored or false;
in
{
  "what is big is not compressed, and what is not is, as it was" = {
    expr = map stored [
      0
      (1024 * 1024 * 1024)
      (1024 * 1024 * 1024 + 1)
    ];
    expected = [
      false
      false
      true
    ];
  };
}
