# `dockerTools` of the debian package set: `buildLayeredImage` with nixpkgs' argument names.
#
# The result is one tar that is an OCI layout and a `docker save` archive at once; its `layout` is the same as a folder
# whose blobs are links, and its `layers` are the layers' derivations.
#
# base: a lock's base image, which every image and root here goes on, or null; fetch: gets its layers.
# planLayers: layers.nix. platform: the names of what the image is for. runTool: runs the programs that make it.
# byteCodePython: compiles what is Python, or null. busybox: runs maintainer scripts whose text can't be read.
# zstd: the command that unpacks a base image's layers of that kind.
# compression: of layers that are made here, gzip or zstd.
{
  busybox,
  runTool,
  planLayers,
  byteCodePython,
  platform,
  base ? null,
  fetch ? null,
  zstd ? null,
  compression ? "gzip",
}:
let
  # Engines stack 127 layers, and docker keeps two of them for what a container writes.
  mostLayers = 125;

  baseLayers =
    if base == null then
      [ ]
    else
      map (
        layer:
        let
          sha256 = builtins.substring 7 64 layer.digest;
        in
        runTool {
          name = "base-layer";
          tool = "import_layer.py";
          config = {
            inherit (layer) diff-id digest media-type size;
            blob = fetch {
              file = "layer-${sha256}";
              inherit sha256;
            };
            created-by = "base image ${base.reference}";
          }
          // (if builtins.match ".*zstd" layer.media-type == null then { } else { inherit zstd; });
        }
      ) base.layers;

  layersOf =
    contents: maxLayers:
    let
      plan = planLayers {
        inherit contents;
        maxLayers = maxLayers - builtins.length baseLayers;
        mostLayers = mostLayers - builtins.length baseLayers;
      };
      wanted = builtins.filter (layer: byteCodePython != null || !layer.onlyByteCode) plan;
    in
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
            python =
              if layer.byteCode && byteCodePython != null then
                { inherit (byteCodePython) command version; }
              else
                null;
            lower = if layer.needsLower then lower else [ ];
          }
          // (if compression == "gzip" then { } else { inherit compression; })
          // (if base == null then { } else { base = baseLayers; })
          // (
            if builtins.any (input: input.kind == "deb") layer.inputs then
              { busybox = "${busybox}/bin/busybox"; }
            else
              { }
          );
        })
      ]
    ) baseLayers wanted;
in
{
  # The layers that contents make, the lowest first.
  layers = contents: layersOf contents 100;

  # The root that contents make, as a folder: what a container of them would show, for programs that run during builds.
  unpackedRoot =
    contents:
    runTool {
      name = "root";
      tool = "unpack_layers.py";
      config.layers = layersOf contents 100;
    };

  # What contents add to that root, as a folder to lie over it.
  unpackedPart =
    contents:
    let
      layers = layersOf contents 100;
      below = builtins.length baseLayers;
    in
    runTool {
      name = "root-part";
      tool = "unpack_layers.py";
      config.layers = builtins.genList (i: builtins.elemAt layers (below + i)) (builtins.length layers - below);
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
      # Derivations that must succeed although nothing of them is in the image.
      requires ? [ ],
      # The export that it is made of, by its parts, which the image then names; none of it is in the image.
      exportParts ? null,
    }:
    let
      layers = layersOf contents maxLayers;
      labels = config.Labels or { };
      # What the specification has a name for is said of the manifest, too.
      annotations = builtins.listToAttrs (
        map (name: {
          inherit name;
          value = labels.${name};
        }) (
          builtins.filter (name: builtins.match "org[.]opencontainers[.]image[.].*" name != null) (
            builtins.attrNames labels
          )
        )
      );

      made =
        more:
        runTool {
          name = "${name}-layout";
          tool = "image.py";
          config = {
            inherit
              layers
              annotations
              architecture
              created
              name
              tag
              config
              ;
            os = "linux";
            max-layers = if base == null then maxLayers else mostLayers;
          }
          // (if exportParts == null then { } else { export = exportParts; })
          // more;
        };

      # `unchecked` is for who has both made at a time, and takes neither before all are.
      layout = made { inherit requires; } // {
        inherit requires;
        unchecked = made { };
      };

      archive = runTool {
        name = "${name}.tar";
        tool = "archive.py";
        config = { inherit layout; };
      };
    in
    archive // { inherit layout layers; };
}
