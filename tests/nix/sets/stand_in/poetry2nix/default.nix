# A stand-in for poetry2nix: the interface that poetry.nix calls, with its arguments' names and types checked.
#
# It reads the two files as poetry2nix does, and gives an environment of what is in them.
{ pkgs }:
let
  inherit (pkgs) check;
  read = file: builtins.fromTOML (builtins.readFile file);
  passedThrough = builtins.fromJSON (builtins.readFile ./known-build-systems.json);
in
{
  overrides.withoutDefaults = overlay: [ overlay ];

  mkPoetryEnv =
    check "mkPoetryEnv"
      {
        projectDir.types = [ "path" ];
        python.types = [ "package" ];
        preferWheels.types = [ "bool" ];
        groups.types = [ "strings" ];
        checkGroups.types = [ "strings" ];
        overrides.types = [ "list" ];
        extraPackages.types = [ "lambda" ];
      }
      (
        {
          projectDir,
          python,
          preferWheels,
          groups,
          overrides,
          extraPackages,
          ...
        }:
        let
          project = (read (projectDir + "/pyproject.toml")).tool.poetry;
          locked = (read (projectDir + "/poetry.lock")).package;
          make =
            packages: one:
            packages.buildPythonPackage {
              pname = one.name;
              inherit (one) version;
              format = "wheel";
              src = derivation {
                name = (builtins.head one.files).file;
                system = "builtin";
                builder = "/stand-in";
                inherit (builtins.head one.files) hash;
              };
            };
          fromLock =
            final: _prev:
            builtins.listToAttrs (
              map (one: {
                inherit (one) name;
                value = make final one;
              }) (builtins.filter (one: !builtins.elem one.name passedThrough) locked)
            );
          after = builtins.foldl' (
            first: second: final: prev:
            let
              changed = first final prev;
            in
            changed // second final (prev // changed)
          ) fromLock overrides;
          made = python.override { packageOverrides = after; };
          wanted = removeAttrs project.dependencies [ "python" ];
        in
        assert preferWheels && groups == [ "main" ];
        made.withPackages (
          packages: map (name: packages.${name}) (builtins.attrNames wanted) ++ extraPackages packages
        )
      );
}
