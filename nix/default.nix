# Table of contents. Each file is one step and says what it needs in its arguments.
{
  platforms = import ./platforms.nix; # what each platform is called by whom
  storeName = import ./store-name.nix; # a file's name -> its store name
  documents = import ./documents.nix; # spec.json, tungsten.lock, sources.json -> checked values
  fetch = import ./fetch.nix; # a lock's entry -> the file
  bootstrap = import ./bootstrap.nix; # the first program
  root = import ./root.nix; # debs -> a Python that runs during builds
  runTool = import ./run-tool.nix; # a program of tools/ -> a derivation
  deb = import ./deb.nix; # a lock's deb -> a content
  ownWheel = import ./own-wheel.nix; # our own sources -> what a wheel is made of
  wheel = import ./wheel.nix; # a lock's wheel, or our own sources -> a content
  source = import ./source.nix; # a lock's source -> a wheel
  layers = import ./layers.nix; # contents -> the plan of layers
  image = import ./image.nix; # dockerTools.buildLayeredImage
  step = import ./step.nix; # a program that runs in an image's own root
  debian = import ./debian.nix; # the debian package set
  aptNames = import ./apt-names.nix; # names of apt's -> packages of nixpkgs
  poetry = import ./poetry.nix; # a Poetry project -> an environment, by poetry2nix
  nixpkgs = import ./nixpkgs.nix; # the nixpkgs package set
  environment = import ./environment.nix; # the variables in an image
  modelImage = import ./model-image.nix; # the image, whatever the package set
  seal = import ./seal.nix; # a lock that is not sealed -> what sealing must build
  shell = import ./shell.nix; # the development shell
  outputs = import ./outputs.nix; # documents -> outputs of a flake
  exported = import ./exported.nix; # the outputs of an exported flake
  nixpkgsOutputs = import ./nixpkgs-outputs.nix; # the same for the nixpkgs package set
}
