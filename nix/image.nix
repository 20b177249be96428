# `dockerTools` of the debian package set: `buildLayeredImage` with nixpkgs' argument names.
#
# The result is one tar that is an OCI layout and a `docker save` archive at once; its `layout` is the same as a folder
# whose blobs are links, and its `layers` are the layers' derivations.
{ runTool, planLayers, byteCodePython, platform }:
let
  layersOf =
    contents: maxLayers:
    builtins.foldl' (
      lower: layer:
      lower
      ++ [
        (runTool {
          name = "layer-${layer.name}";
          tool = "layer.py";
          config = {
            created-by = layer.label;
            inherit (layer) inputs;
            python = if layer.byteCode then { inherit (byteCodePython) command version; } else null;
            lower = if layer.needsLower then lower else [ ];
          };
        })
      ]
    ) [ ] (planLayers { inherit contents maxLayers; });
in
{
  # The root that contents make, as a folder: what a container of them would show, for programs that run during builds.
  unpackedRoot =
    contents:
    runTool {
      name = "root";
      tool = "unpack_layers.py";
      config.layers = layersOf contents 100;
    };

  buildLayeredImage =
    {
      name,
      tag ? "latest",
      contents ? [ ],
      config ? { },
      maxLayers ? 100,
      created ? "1970-01-01T00:00:01Z",
      architecture ? platform.oci,
      fromImage ? null,
      # Not nixpkgs': derivations without which there is no image.
      requires ? [ ],
    }:
    let
      layers = layersOf contents maxLayers;

      layout = runTool {
        name = "${name}-layout";
        tool = "image.py";
        config = {
          inherit
            layers
            requires
            architecture
            created
            name
            tag
            config
            ;
          os = "linux";
          max-layers = maxLayers;
        };
      };

      archive = runTool {
        name = "${name}.tar";
        tool = "archive.py";
        config = { inherit layout; };
      };
    in
    if fromImage != null then
      throw "tungsten: fromImage (base_image) can't be built yet"
    else
      archive // { inherit layout layers; };
}
