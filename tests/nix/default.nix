# All rules of nix/ that need no build: { "<file>: <rule>" = { expr, expected }; }.
{ nix }:
let
  # The folders are those of nix/.
  folders = builtins.filter (name: (builtins.readDir ./.).${name} == "directory") (
    builtins.attrNames (builtins.readDir ./.)
  );
  files = builtins.concatMap (
    folder:
    map (name: "${folder}/${name}") (
      builtins.filter (name: builtins.match "test_.*\\.nix" name != null) (
        builtins.attrNames (builtins.readDir (./. + "/${folder}"))
      )
    )
  ) folders;
  rulesOf =
    file:
    let
      rules = import (./. + "/${file}") { inherit nix; };
    in
    map (rule: {
      name = "${file}: ${rule}";
      value = rules.${rule};
    }) (builtins.attrNames rules);
in
builtins.listToAttrs (builtins.concatMap rulesOf files)
