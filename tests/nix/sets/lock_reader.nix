# What poetry2nix reads of a Poetry project: each package's version, file and hash. Where its own reading is asked for,
# nothing of ours is laid over it.
#
# nixpkgs: the stand-in, with nixpkgs' own lib. project: the folder. python: such as `python311`.
# wheels: a lock's entries, to be laid over it as an image's are, or null.
{ nixpkgs, poetry2nix, project, python, system ? "x86_64-linux", wheels ? null }:
let
  pkgs = import nixpkgs {
    inherit system;
    config.allowUnfree = false;
    overlays = [ ];
  };
  builder = import poetry2nix { inherit pkgs; };
  environment =
    if wheels == null then
      builder.mkPoetryEnv {
        python = pkgs.${python};
        projectDir = project;
        preferWheels = true;
        groups = [ "main" ];
        checkGroups = [ ];
        overrides = builder.overrides.withoutDefaults (_final: _prev: { });
      }
    else
      (import ../../../nix).poetry
        {
          inherit pkgs poetry2nix;
          fetch = wheel: {
            inherit (wheel) file;
            outputHash = "sha256:${wheel.sha256}";
            outPath = "/of-the-lock/${wheel.file}";
          };
        }
        {
          inherit project wheels;
          python = pkgs.${python};
          libraries = [ ];
          driver = false;
          own = [ ];
        };
in
map (package: {
  inherit (package) pname version format;
  file = package.src.file or package.src.name;
  hash = package.src.outputHash or null;
}) environment.packages
