# Names of apt's to packages of nixpkgs.
#
# names: what a model adds or decides otherwise, `[tool.tungsten.nixpkgs]`: attributes by apt's name. cuda: the lock's.
{ pkgs, names, cuda }:
let
  known = builtins.fromJSON (builtins.readFile ./apt-names.json) // names;

  # What names of one thing have in common: `libgl1-mesa-glx` and `libgl1-mesa-dev` are near each other.
  stem =
    name:
    let
      bare = builtins.replaceStrings [ "lib" "python3-" "fonts-" "-" "." "+" ] [ "" "" "" "" "" "" ] name;
    in
    builtins.substring 0 3 (builtins.head (builtins.split "[0-9]" bare));

  near = name: builtins.filter (other: stem other == stem name) (builtins.attrNames known);

  refuse =
    unknown:
    let
      lineOf =
        name:
        if near name == [ ] then "${name}: nothing is near it" else "${name}: near are ${words (near name)}";
    in
    throw ''
      tungsten: nix/sets/apt-names.json has no nixpkgs package for these system_packages:
      ${builtins.concatStringsSep "\n" (map lineOf unknown)}
      Add one to the pyproject.toml beside the model, and lock again:
      [tool.tungsten.nixpkgs]
      "${builtins.head unknown}" = ["an attribute of nixpkgs"]'';

  words = builtins.concatStringsSep ", ";

  # CUDA's own are in a set for each version, of which an image has one.
  cudaPackages =
    if cuda == null then
      throw "tungsten: system_packages asks for CUDA's packages, and nothing of the lock has CUDA"
    else
      "cudaPackages_${builtins.replaceStrings [ "." ] [ "_" ] cuda.version}";

  attributeOf =
    name: path:
    let
      parts = builtins.filter builtins.isString (builtins.split "[.]" path);
      placed = if builtins.head parts == "cudaPackages" then [ cudaPackages ] ++ builtins.tail parts else parts;
    in
    builtins.foldl' (
      set: part: set.${part} or (throw "tungsten: this nixpkgs has no ${words placed} (for ${name})")
    ) pkgs placed;
in
wanted:
let
  unknown = builtins.filter (name: !known ? ${name}) wanted;
in
if unknown != [ ] then
  refuse unknown
else
  builtins.concatMap (name: map (attributeOf name) known.${name}) wanted
