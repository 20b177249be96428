# Imports a model's module by the image's own Python in the image's own root, and compares what it declares with the
# spec: a derivation that fails where the image would not start.
#
# tree: the root. over: folders as `dockerTools.unpackedPart` makes them, whose /app and HOME lie over the root's.
# python: a path in it. model: the model's files. specFile: spec.json. variables: the image's own.
{ facts, step }:
{ tree, over, python, model, specFile, variables }:
step {
  name = "import-check";
  inherit model over python tree;
  program = ../tools/import_check.py;
  config = {
    inherit variables;
    # As text: what Nix writes of a number has fewer digits than it read.
    spec = builtins.readFile specFile;
    drivers = facts.driver-libraries;
    names = builtins.fromJSON (builtins.readFile ./import-names.json);
  };
}
