# From an export's documents to its flake's outputs: ties every step together, for each platform of the lock and each
# platform that it has tools for.
#
#   packages.<system>.model-image, -dir               the image for that platform
#   packages.<system>.model-image-<platform>, -dir    the image for any platform of the lock; the bytes are the same,
#                                                     whichever system assembles it
#
# spec, lock, sources: paths of the documents. model: the model's files.
# bigFiles: path of files.json, which names those of the model's files that are in the store by themselves; may be null.
# own: a folder of files that the lock names and no mirror has, or null.
# ownSources: { sdk, server }, folders of our modules.
{ spec, lock, sources, model, ownSources, own ? null, bigFiles ? null }:
let
  documents = import ./documents.nix;
  ownWheels = builtins.fromJSON (builtins.readFile ./wheels.json);

  theSpec = documents.spec spec;
  theLock = documents.lock lock;
  fetch = import ./fetch.nix {
    inherit own;
    storeName = import ./store-name.nix;
    sources = documents.sources sources;
  };

  files = import ./files.nix { inherit fetch; };

  specFile = builtins.path {
    name = "spec.json";
    path = spec;
  };

  platforms = import ./platforms.nix;
  platformOf =
    system:
    platforms.${system} or (throw ''
      tungsten: this nix/ does not know the lock's platform ${system}.
      Export again with one version of tungsten'');

  # Everything that runs while an image is made: the lock's tools for the platform that builds.
  builder =
    system: tools:
    let
      busybox = import ./bootstrap.nix {
        inherit fetch system;
        inherit (tools) busybox;
      };
      root = import ./root.nix {
        inherit busybox fetch system;
        platform = platformOf system;
      };
      python = root tools.byte-code;
    in
    {
      inherit system;
      runTool = import ./run-tool.nix {
        inherit busybox system;
        python = root tools.layers;
      };
      byteCodePython = python;
      shell = import ./shell.nix {
        inherit
          busybox
          fetch
          python
          system
          ;
        inherit (tools) bash;
      };
    };

  # The image for one platform; nothing of it is run, so any builder will do.
  image =
    {
      runTool,
      byteCodePython,
      system,
      ...
    }:
    target: locked:
    let
      platform = platformOf target;

      # A wheel is built on the platform that it is for; one that is for all of them, on the one that builds.
      source =
        entry:
        let
          here = theLock.platforms.${system}.sources or [ ];
          same = builtins.filter (other: other.wheel-sha256 == entry.wheel-sha256) here;
          on = if same == [ ] then target else system;
        in
        import ./source.nix {
          inherit fetch;
          inherit (locked) python;
          platform = platformOf on;
          system = on;
          tools = theLock.tools.${on};
        } (if same == [ ] then entry else builtins.head same);
    in
    import ./model-image.nix {
      spec = theSpec;
      packageSet = import ./debian.nix {
        inherit platform locked ownSources ownWheels model source;
        server = theLock.server.${target};
        spec = specFile;
        declared = files.declared (theLock.files or { });
        bigFiles = files.big (documents.files bigFiles);
        deb = import ./deb.nix { inherit fetch; };
        wheel = import ./wheel.nix { inherit fetch runTool; };
        dockerTools = import ./image.nix {
          inherit runTool byteCodePython platform;
          planLayers = import ./layers.nix;
        };
      };
    };

  # Both forms of an image: one file, and a folder whose blobs are links.
  forms = name: made: {
    ${name} = made;
    "${name}-dir" = made.layout;
  };

  builders = builtins.mapAttrs builder theLock.tools;
in
{
  packages = builtins.mapAttrs (
    system: tools:
    let
      images = builtins.mapAttrs (image tools) theLock.platforms;
      each = map (name: forms "model-image-${name}" images.${name}) (builtins.attrNames images);
      own = forms "model-image" images.${system} // { default = images.${system}; };
    in
    builtins.foldl' (all: more: all // more) (if images ? ${system} then own else { }) each
  ) builders;

  devShells = builtins.mapAttrs (_system: tools: { default = tools.shell; }) builders;
}
