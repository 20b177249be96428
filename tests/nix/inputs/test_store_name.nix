# The rule for store names, by the table that the Python side is tested with too.
{ nix }:
let
  table = builtins.fromJSON (builtins.readFile ./store_names.json);
in
builtins.listToAttrs (
  map (row: {
    name = "store name of ${builtins.head row}";
    value = {
      expr = nix.storeName (builtins.head row);
      expected = builtins.elemAt row 1;
    };
  }) table
)
