{
  description = "A stand-in for nixpkgs, for tests";
  outputs = _inputs: { };
}
