# Which contents share a layer: a pure function from contents to the plan of layers.
#
# Contents come in order, each with the name of its layer; those of one name stand together. What is big stands alone,
# so that a change beside it re-makes no big layer; what is small stands together, so that the count stays low.
{ contents, maxLayers }:
let
  mib = 1024 * 1024;
  # Registries have refused layers over 8 GB; packed bytes unpack to about four times as many.
  most = 1024 * mib;

  names = builtins.foldl' (
    seen: content: if builtins.elem content.layer seen then seen else seen ++ [ content.layer ]
  ) [ ] contents;

  # Puts contents into bundles of at most `most` bytes, in order.
  bundles = builtins.foldl' (
    done: content:
    let
      last = builtins.elemAt done (builtins.length done - 1);
      size = builtins.foldl' (sum: one: sum + one.size) content.size last;
    in
    if done == [ ] || size > most then
      done ++ [ [ content ] ]
    else
      # Replace the last bundle by itself and this content.
      builtins.genList (i: builtins.elemAt done i) (builtins.length done - 1) ++ [ (last ++ [ content ]) ]
  ) [ ];

  together = name: part: {
    inherit name;
    label = builtins.concatStringsSep ", " (map (content: content.label) part);
    inputs = builtins.concatMap (content: content.inputs) part;
    byteCode = builtins.any (content: content.byteCode or false) part;
    needsLower = builtins.any (content: content.needsLower or false) part;
    onlyByteCode = false;
  };

  alone = name: content: [
    {
      inherit name;
      inherit (content) label;
      inherit (content.alone) inputs;
      byteCode = false;
      needsLower = false;
      onlyByteCode = false;
    }
    {
      name = "${name}-byte-code";
      label = "byte-code of ${content.label}";
      inputs = content.alone.byteCodeInputs;
      byteCode = true;
      needsLower = false;
      onlyByteCode = true;
    }
  ];

  plan =
    big:
    let
      layers = builtins.concatMap (
        name:
        let
          members = builtins.filter (content: content.layer == name) contents;
          isBig = content: content ? alone && content.size >= big;
        in
        builtins.concatMap (alone name) (builtins.filter isBig members)
        ++ map (together name) (bundles (builtins.filter (content: !isBig content) members))
      ) names;
    in
    if builtins.length layers <= maxLayers then
      layers
    else if big > 64 * 1024 * mib then
      throw "tungsten: maxLayers = ${toString maxLayers} is too few: ${toString (builtins.length layers)} are needed"
    else
      plan (big * 2);
in
plan (32 * mib)
