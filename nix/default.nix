# Table of contents. Each file is one step and says what it needs in its arguments.
{
  platforms = import ./platforms.nix; # what each platform is called by whom
  storeName = import ./store-name.nix; # a file's name -> its store name
  documents = import ./documents.nix; # spec.json, tungsten.lock, sources.json -> checked values
  fetch = import ./fetch.nix; # a lock's entry -> the file
  bootstrap = import ./bootstrap.nix; # the first program
  root = import ./root.nix; # debs -> a Python that runs during builds
  runTool = import ./run-tool.nix; # a program of tools/ -> a derivation
  files = import ./files.nix; # declared downloads and big files -> contents
  deb = import ./deb.nix; # a lock's deb -> a content
  ownWheel = import ./own-wheel.nix; # our own sources -> what a wheel is made of
  wheel = import ./wheel.nix; # a lock's wheel, or our own sources -> a content
  source = import ./source.nix; # a lock's source -> a wheel
  layers = import ./layers.nix; # contents -> the plan of layers
  image = import ./image.nix; # dockerTools.buildLayeredImage
  step = import ./step.nix; # a program that runs in an image's own root
  commands = import ./commands.nix; # what dockerfile_commands change
  postBuild = import ./post-build.nix; # what post_build makes
  importCheck = import ./import-check.nix; # a model's module, imported in its root
  rootParts = import ./root-parts.nix; # an image's root, for running it without a container engine
  debian = import ./debian.nix; # the debian package set
  stated = import ./stated.nix; # files, links and folders as contents
  debianRoot = import ./debian-root.nix; # the system below the model: Debian's packages
  baseRoot = import ./base-root.nix; # the same: a base image
  aptNames = import ./apt-names.nix; # names of apt's -> packages of nixpkgs
  poetry = import ./poetry.nix; # a Poetry project -> an environment, by poetry2nix
  nixpkgs = import ./nixpkgs.nix; # the nixpkgs package set
  environment = import ./environment.nix; # the variables in an image
  modelImage = import ./model-image.nix; # the image, whatever the package set
  seal = import ./seal.nix; # a lock that is not sealed -> what sealing must build
  sealStep = import ./seal-step.nix; # one step of an export, run before the lock has its result
  shell = import ./shell.nix; # the development shell
  programs = import ./programs.nix; # programs that stream and push an image
  outputs = import ./outputs.nix; # documents -> outputs of a flake
  exported = import ./exported.nix; # the outputs of an exported flake
  nixpkgsOutputs = import ./nixpkgs-outputs.nix; # the same for the nixpkgs package set
}
