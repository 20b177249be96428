# All rules of nix/ that need no build: { "<file>: <rule>" = { expr, expected }; }.
{ nix }:
let
  files = builtins.filter (name: builtins.match "test_.*\\.nix" name != null) (
    builtins.attrNames (builtins.readDir ./.)
  );
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
