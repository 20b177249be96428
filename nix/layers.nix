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
  bundles =
    members:
    let
      end = builtins.foldl' (
        { done, last, size }:
        content:
        if last != [ ] && size + content.size > most then
          {
            done = done ++ [ last ];
            last = [ content ];
            inherit (content) size;
          }
        else
          {
            inherit done;
            last = last ++ [ content ];
            size = size + content.size;
          }
      ) { done = [ ]; last = [ ]; size = 0; } members;
    in
    if members == [ ] then [ ] else end.done ++ [ end.last ];

  # Contents of one origin, such as the files of a repository, stand together and have one label.
  labels =
    part:
    builtins.foldl' (
      seen: content:
      if seen != [ ] && builtins.elemAt seen (builtins.length seen - 1) == content.label then
        seen
      else
        seen ++ [ content.label ]
    ) [ ] part;

  together = name: part: {
    inherit name;
    label = builtins.concatStringsSep ", " (labels part);
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
  ]
  ++ map (byteCodeInputs: {
    name = "${name}-byte-code";
    label = "byte-code of ${content.label}";
    inputs = byteCodeInputs;
    byteCode = true;
    needsLower = false;
    onlyByteCode = true;
  }) (if content.alone ? byteCodeInputs then [ content.alone.byteCodeInputs ] else [ ]);

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
