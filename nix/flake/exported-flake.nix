{
  description = "A model, exported by Tungstenkit on Nix: nix build .#model-image";

  outputs = _inputs: (import ./nix).exported ./.;
}
