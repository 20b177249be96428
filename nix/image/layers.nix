# Which contents share a layer: a pure function from contents to the plan of layers.
#
# Contents come in order, each with the name of its layer; those of one name stand together. What is big stands alone,
# so that a change beside it re-makes no big layer; what is small stands together, so that the count stays low.
#
# maxLayers: how many there shall be at most; mostLayers: from how many on what changes apart is put together.
{ contents, maxLayers, mostLayers ? maxLayers }:
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
    else if big <= 64 * 1024 * mib then
      plan (big * 2)
    else if builtins.length layers <= mostLayers then
      layers
    else
      joined layers;

  # Changes are what a step made of all that is below it, and some files follow from it: they stand alone.
  isJoinable =
    layer:
    !layer.needsLower
    && builtins.all (input: !builtins.elem (input.kind or null) [ "changes" "replaced" "dpkg" ]) layer.inputs;

  # Neighbours put together, the lowest first, for as long as there are too many.
  joined =
    layers:
    let
      count = builtins.length layers;
      both = i: [
        (builtins.elemAt layers i)
        (builtins.elemAt layers (i + 1))
      ];
      places = builtins.filter (i: builtins.all isJoinable (both i)) (builtins.genList (i: i) (count - 1));
      place = builtins.head places;
      part = from: to: builtins.genList (i: builtins.elemAt layers (from + i)) (to - from);
      any = flag: builtins.any (layer: layer.${flag}) (both place);
      one = {
        inherit (builtins.elemAt layers place) name;
        label = builtins.concatStringsSep "; " (map (layer: layer.label) (both place));
        inputs = builtins.concatMap (layer: layer.inputs) (both place);
        byteCode = any "byteCode";
        needsLower = any "needsLower";
        onlyByteCode = false;
      };
    in
    if count <= mostLayers then
      layers
    else if places == [ ] then
      throw "tungsten: ${toString mostLayers} layers are too few: ${toString count} are needed"
    else
      joined (part 0 place ++ [ one ] ++ part (place + 2) count);
in
plan (32 * mib)
