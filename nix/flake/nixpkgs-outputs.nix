# From an export for the nixpkgs package set to its flake's outputs, for each platform of the lock:
#
#   packages.<system>.model-image          the image, as `docker load` takes it
#   packages.<system>.model-image-stream   a program that writes the same image to its standard output
#
# scope: how an image's parts are tied together. inputs: { nixpkgs, poetry2nix }, folders of the revisions that the lock
# pins. folder: the export. model: its model's files. ownSources: { sdk, server }, folders of our modules.
{ scope, ... }:
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
  exported = scope.exported "nixpkgs" {
    inherit model ownSources;
    spec = folder + "/spec.json";
    lock = folder + "/tungsten.lock";
    sources = folder + "/sources.json";
    own = folder + "/files";
    bigFiles = folder + "/files.json";
  };

  imagesFor =
    system: _locked:
    let
      parts = scope.nixpkgs {
        inherit exported inputs system;
        projects = folder + "/poetry/${system}";
      };
    in
    rec {
      model-image = parts.modelImage;
      model-image-stream = parts.modelImageStream;
      default = model-image;
    };
in
{
  packages = builtins.mapAttrs imagesFor exported.lock.platforms;
}
