# From an export for the nixpkgs package set to its flake's outputs, for each platform of the lock:
#
#   packages.<system>.model-image          the image, as `docker load` takes it
#   packages.<system>.model-image-stream   a program that writes the same image to its standard output
#
# inputs: { nixpkgs, poetry2nix }, folders of the revisions that the lock pins. folder: the export.
# model: its model's files. ownSources: { sdk, server }, folders of our modules.
{
  inputs,
  folder,
  model ? builtins.path {
    name = "model";
    path = folder + "/model";
  },
  ownSources ? {
    sdk = folder + "/tungstenkit";
    server = folder + "/server/tungsten_server";
  },
}:
let
  documents = import ./documents.nix;
  spec = documents.spec (folder + "/spec.json");
  lock = documents.lockOf "nixpkgs" (folder + "/tungsten.lock");

  fetch = import ./fetch.nix {
    storeName = import ./store-name.nix;
    sources = documents.sources (folder + "/sources.json");
    own = folder + "/files";
  };
  files = import ./files.nix { inherit fetch; };

  image =
    system: locked:
    let
      pkgs = import inputs.nixpkgs {
        inherit system;
        # NVIDIA's libraries are not free, and are taken for a GPU only.
        config.allowUnfree = spec.gpu;
        # Nothing of whoever builds counts.
        overlays = [ ];
      };
      packageSet = import ./nixpkgs.nix {
        inherit
          locked
          model
          ownSources
          pkgs
          spec
          ;
        platform = (import ./platforms.nix).${system};
        server = lock.server.${system};
        specFile = builtins.path {
          name = "spec.json";
          path = folder + "/spec.json";
        };
        bigFiles = map (file: file // { stored = files.one file; }) (documents.files (folder + "/files.json"));
        projects = folder + "/poetry/${system}";
        ownWheels = builtins.fromJSON (builtins.readFile ./wheels.json);
        environmentOf = import ./poetry.nix {
          inherit fetch pkgs;
          inherit (inputs) poetry2nix;
        };
      };
      made = packageSet: import ./model-image.nix { inherit packageSet spec; };
    in
    rec {
      model-image = made packageSet;
      model-image-stream = made (packageSet // { dockerTools = packageSet.streaming; });
      default = model-image;
    };
in
{
  packages = builtins.mapAttrs image lock.platforms;
}
