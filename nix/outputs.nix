# From an export's documents to its flake's outputs: ties every step together, for each platform of the lock.
#
# spec, lock, sources: paths of the documents. model: the model's files.
# own: a folder of files that the lock names and no mirror has, or null.
# ownSources: { sdk, server }, folders of our modules.
{ spec, lock, sources, model, ownSources, own ? null }:
let
  documents = import ./documents.nix;
  platforms = import ./platforms.nix;
  ownWheels = builtins.fromJSON (builtins.readFile ./wheels.json);

  theSpec = documents.spec spec;
  theLock = documents.lock lock;
  fetch = import ./fetch.nix {
    inherit own;
    storeName = import ./store-name.nix;
    sources = documents.sources sources;
  };

  specFile = builtins.path {
    name = "spec.json";
    path = spec;
  };

  forSystem =
    system: locked:
    let
      unknown = what: throw "tungsten: ${what} ${system}; export again with one version of tungsten";
      platform = platforms.${system} or (unknown "this nix/ does not know the lock's platform");
      tools = theLock.tools.${system} or (unknown "the lock has no tools for a build on");
      busybox = import ./bootstrap.nix {
        inherit fetch system;
        inherit (tools) busybox;
      };
      root = import ./root.nix {
        inherit
          busybox
          fetch
          platform
          system
          ;
      };
      runTool = import ./run-tool.nix {
        inherit busybox system;
        python = root tools.layers;
      };
      packageSet = import ./debian.nix {
        inherit platform locked ownSources ownWheels model;
        server = theLock.server.${system};
        spec = specFile;
        deb = import ./deb.nix { inherit fetch; };
        wheel = import ./wheel.nix { inherit fetch runTool; };
        source = import ./source.nix {
          inherit fetch platform system;
          inherit (locked) python;
          tools = theLock.tools.${system};
        };
        dockerTools = import ./image.nix {
          inherit runTool platform;
          planLayers = import ./layers.nix;
          byteCodePython = root tools.byte-code;
        };
      };
      model-image = import ./model-image.nix {
        inherit packageSet;
        spec = theSpec;
      };
    in
    {
      packages = {
        inherit model-image;
        model-image-dir = model-image.layout;
        default = model-image;
      };
      devShells.default = import ./shell.nix {
        inherit busybox fetch system;
        inherit (tools) bash;
        python = root tools.byte-code;
      };
    };
  outputs = builtins.mapAttrs forSystem theLock.platforms;
in
{
  packages = builtins.mapAttrs (_system: output: output.packages) outputs;
  devShells = builtins.mapAttrs (_system: output: output.devShells) outputs;
}
