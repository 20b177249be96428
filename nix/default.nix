# Table of contents, and the only file that names the others. Each file is one part, and says in its arguments what it
# needs; `scope` gives them to it.
#
#   inputs/   an export's documents, and the files that its lock names
#   steps/    programs that run while an image is made
#   image/    layers and images, whatever is in them
#   sets/     the package sets: what is in an image
#   flake/    what is asked for from outside
#   tools/    the programs; tools/lib/ is what they import
let
  nix = {
    documents = import ./inputs/documents.nix; # spec.json, tungsten.lock, sources.json -> checked values
    facts = builtins.fromJSON (builtins.readFile ./tools/lib/facts.json); # what programs and tungsten know, too
    inherit (nix.facts) platforms; # what each platform is called by whom
    storeName = import ./inputs/store-name.nix; # a file's name -> its store name
    quoted = import ./inputs/quoted.nix; # a text -> a word of a shell's
    fetch = import ./inputs/fetch.nix; # a lock's entry -> the file
    files = import ./inputs/files.nix; # declared downloads and big files -> contents
    deb = import ./inputs/deb.nix; # a lock's deb -> a content
    wheel = import ./inputs/wheel.nix; # a lock's wheel, or our own sources -> a content
    ownWheels = builtins.fromJSON (builtins.readFile ./inputs/wheels.json); # what is said of our two wheels
    ownWheel = import ./inputs/own-wheel.nix; # our own sources -> what a wheel is made of
    source = import ./inputs/source.nix; # a lock's source -> a wheel

    bootstrap = import ./steps/bootstrap.nix; # the first program
    root = import ./steps/root.nix; # debs -> a Python that runs during builds
    programs = import ./steps/programs.nix; # the programs of tools/, each with what it imports
    runTool = import ./steps/run-tool.nix; # a program of tools/ -> a derivation
    enter = import ./steps/enter.nix; # how a program is run apart
    step = import ./steps/step.nix; # a program that runs in an image's own root
    commands = import ./steps/commands.nix; # what dockerfile_commands change
    postBuild = import ./steps/post-build.nix; # what post_build makes
    importCheck = import ./steps/import-check.nix; # a model's module, imported in its root

    dateOf = import ./image/date-of.nix; # when an image was made, by what its lock says
    environment = import ./image/environment.nix; # the variables in an image
    stated = import ./image/stated.nix; # files, links and folders as contents
    layers = import ./image/layers.nix; # contents -> the plan of layers
    image = import ./image/image.nix; # dockerTools.buildLayeredImage
    modelImage = import ./image/model-image.nix; # the image, whatever the package set
    rootParts = import ./image/root-parts.nix; # an image's root, for running it without a container engine

    debianRoot = import ./sets/debian-root.nix; # the system below the model: Debian's packages
    baseRoot = import ./sets/base-root.nix; # the same: a base image
    underneath = import ./sets/underneath.nix; # one of the two, and the lock's CUDA
    buildRoot = import ./sets/build-root.nix; # the root with the model's packages
    debian = import ./sets/debian.nix; # the debian package set
    aptNames = import ./sets/apt-names.nix; # names of apt's -> packages of nixpkgs
    poetry = import ./sets/poetry.nix; # a Poetry project -> an environment, by poetry2nix
    nixpkgs = import ./sets/nixpkgs.nix; # the nixpkgs package set

    scope = import ./scope.nix nix; # how all of these are tied together
    shell = import ./flake/shell.nix; # the development shell
    apps = import ./flake/apps.nix; # programs that stream and push an image
    outputs = import ./flake/outputs.nix nix; # documents -> outputs of a flake
    exported = import ./flake/exported.nix nix; # the outputs of an exported flake
    nixpkgsOutputs = import ./flake/nixpkgs-outputs.nix nix; # the same for the nixpkgs package set
    seal = import ./flake/seal.nix; # a lock that is not sealed -> what sealing must build
    sealStep = import ./flake/seal-step.nix; # one step of an export, run before the lock has its result
  };
in
nix
