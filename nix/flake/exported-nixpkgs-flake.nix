{
  description = "A model, exported by Tungstenkit on Nix for the nixpkgs package set: nix build .#model-image";

  # flake.lock pins both, as tungsten.lock says.
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/@release@";
    poetry2nix = {
      url = "github:nix-community/poetry2nix";
      flake = false;
    };
  };

  outputs =
    inputs:
    (import ./nix).nixpkgsOutputs {
      inherit inputs;
      folder = ./.;
    };
}
