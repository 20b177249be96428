# The nixpkgs package set beside the debian one, against a stand-in for nixpkgs.
{ nix }:
let
  system = "x86_64-linux";
  inputs = {
    nixpkgs = ./stand_in/nixpkgs;
    poetry2nix = ./stand_in/poetry2nix;
  };
  pkgs =
    allowUnfree:
    import inputs.nixpkgs {
      inherit system;
      config = { inherit allowUnfree; };
      overlays = [ ];
    };
  example = name: ../../golden/nixpkgs + "/${name}";
  outputs =
    name:
    (nix.nixpkgsOutputs {
      inherit inputs;
      folder = example name;
      model = ../../../examples + "/${name}";
      ownSources = {
        sdk = ../../../tungstenkit;
        server = ../../../server/tungsten_server;
      };
    }).packages.${system};
  read = file: builtins.fromJSON (builtins.readFile file);
  spec = read (example "caption" + "/spec.json");
  lock = read (example "caption" + "/tungsten.lock");

  # One spec and one lock, as each of the sets has them. change: of the spec; cuda: the lock's.
  configs =
    change: cuda:
    let
      theSpec = spec // change;
      locked = lock.platforms.${system} // {
        inherit cuda;
      };
      given = {
        inherit locked;
        platform = nix.platforms.${system};
        server = lock.server.${system};
        model = null;
      };
      deb = null;
      debian = nix.scope.bind (
        given
        // {
          underneath = nix.scope.bind {
            inherit locked;
            lowest = nix.scope.bind (given // { inherit deb; }) nix.debianRoot;
          } nix.underneath;
          buildRoot = null;
          specFile = null;
          ownSources = null;
          ownWheels = null;
          wheel = null;
          commands.contents = [ ];
          postBuild = {
            contents = [ ];
            requires = [ ];
            replaces = [ ];
          };
          dockerTools.buildLayeredImage = arguments: { inherit arguments; };
        }
      ) nix.debian;
      nixpkgs = nix.scope.bind (
        given
        // {
          bigFiles = [ ];
          pkgs = pkgs theSpec.gpu;
          spec = theSpec;
          specFile = ../../golden/nixpkgs/caption/spec.json;
          model = ../../../examples/caption;
          projects = example "caption" + "/poetry/${system}";
          ownSources.sdk = ../../../tungstenkit;
          ownSources.server = ../../../server/tungsten_server;
          ownWheels = read ../../../nix/inputs/wheels.json;
          environmentOf = nix.poetry {
            inherit (inputs) poetry2nix;
            pkgs = pkgs theSpec.gpu;
            fetch = wheel: derivation {
              inherit system;
              name = wheel.file;
              builder = "/stand-in";
            };
          };
        }
      ) nix.nixpkgs;
      configOf =
        packageSet:
        (nix.scope.bind {
          inherit packageSet;
          spec = theSpec;
        } nix.modelImage).arguments.config;
    in
    {
      debian = configOf debian;
      # Without `contents`, which only a build of the debian set could make.
      nixpkgs = configOf nixpkgs;
    };

  variables =
    config:
    builtins.listToAttrs (
      map (
        line:
        let
          parts = builtins.match "([^=]*)=(.*)" line;
        in
        {
          name = builtins.head parts;
          value = builtins.elemAt parts 1;
        }
      ) config.Env
    );

  # Names of what is not the same in two sets of attributes.
  different =
    one: other:
    builtins.filter (name: !(one ? ${name} && other ? ${name} && one.${name} == other.${name})) (
      builtins.attrNames (one // other)
    );

  differences =
    both:
    let
      parts = config: config // { Env = variables config; };
      debian = parts both.debian;
      nixpkgs = parts both.nixpkgs;
    in
    {
      keys = different debian nixpkgs;
      variables = different debian.Env nixpkgs.Env;
      # Of the entry point: what is not a path into the store.
      entryPoint = map (
        part: if builtins.match "${builtins.storeDir}/.*" part == null then part else null
      ) nixpkgs.Entrypoint;
      same = builtins.length debian.Entrypoint == builtins.length nixpkgs.Entrypoint;
    };

  aptNames =
    names: cuda:
    nix.aptNames {
      inherit cuda names;
      pkgs = pkgs true;
    };
  namesOf = map (package: package.name);

  # Packages of the environment of stand_in/project, by name.
  environment =
    arguments:
    let
      locked = (builtins.fromTOML (builtins.readFile ./stand_in/project/poetry.lock)).package;
      made =
        nix.poetry
          {
            pkgs = pkgs false;
            inherit (inputs) poetry2nix;
            fetch = wheel: derivation {
              inherit system;
              name = wheel.file;
              builder = "/stand-in";
            };
          }
          (
            {
              wheels = map (one: {
                project = one.name;
                inherit (one) version;
                inherit (builtins.head one.files) file;
              }) locked;
              python = (pkgs false).python311;
              project = ./stand_in/project;
              libraries = [ ];
              driver = false;
              own = [ ];
            }
            // arguments
          );
    in
    builtins.listToAttrs (
      map (package: {
        name = package.pname;
        value = package;
      }) made.packages
    );
in
{
  "the two sets' images differ in the entry point's paths alone" = {
    expr = differences (configs { system-packages = [ ]; } null);
    expected = {
      keys = [ "Entrypoint" ];
      variables = [ ];
      entryPoint = [ null "--" null "-I" "-m" "tungsten_server" "--spec" "/opt/tungsten/spec.json" ];
      same = true;
    };
  };
  "with system packages, also in where libraries are" = {
    expr = (differences (configs { } null)).variables;
    expected = [ "LD_LIBRARY_PATH" ];
  };
  "for a GPU, also in where libraries are" = {
    expr =
      let
        found =
          differences
            (configs
              {
                gpu = true;
                gpu-mem-gb = 1;
              }
              {
                version = "12.4";
                minimum-driver = null;
                libraries = [ "nvidia/cublas/lib" ];
              }
            );
      in
      {
        inherit (found) keys variables;
      };
    expected = {
      keys = [ "Entrypoint" "Env" ];
      variables = [ "LD_LIBRARY_PATH" ];
    };
  };
  "every example's image and its stream are of the same arguments" = {
    expr = map (
      name:
      let
        packages = outputs name;
      in
      packages.model-image.arguments == packages.model-image-stream.arguments
      && packages.model-image.kind == "archive"
      && packages.model-image-stream.kind == "stream"
    ) [ "blur" "caption" "detection" ];
    expected = [ true true true ];
  };
  "names of apt's become packages, those of CUDA of the lock's version" = {
    expr = namesOf (aptNames { } { version = "12.4"; } [ "libgl1-mesa-glx" "libglib2.0-0" "libsm6" "libcudnn9" ]);
    expected = [ "libGL" "glib" "libSM" "cudnn" ];
  };
  "a model's own names come first" = {
    expr = namesOf (aptNames { git = [ "ffmpeg" ]; mine = [ "git" "glib" ]; } null [ "git" "mine" ]);
    expected = [ "ffmpeg" "git" "glib" ];
  };
  "a name that nobody knows is refused" = {
    expr = (builtins.tryEval (aptNames { } null [ "no-such-package" ])).success;
    expected = false;
  };
  "CUDA's packages are refused where nothing has CUDA" = {
    expr = (builtins.tryEval (builtins.head (aptNames { } null [ "libcudnn9" ]))).success;
    expected = false;
  };
  "a library of GCC brings no compiler" = {
    expr = namesOf (aptNames { } null [ "libgomp1" "libstdc++6" ]);
    expected = [ "gcc-lib" "gcc-lib" ];
  };
  "a project that poetry2nix takes from nixpkgs is the lock's all the same" = {
    expr = { inherit ((environment { }).setuptools) version format; };
    expected = {
      version = "80.0";
      format = "wheel";
    };
  };
  "what wheels are installed by may be in the lock itself" = {
    expr = map (name: builtins.isString (environment { }).${name}.drvPath) [ "wheel" "installer" ];
    expected = [ true true ];
  };
  "wheels may need the libraries of system packages, and get nothing else of those" = {
    expr =
      let
        inherit
          (builtins.head
            (environment { libraries = [ (pkgs false).glib ]; }).opencv-python.arguments.buildInputs
          )
          arguments
          ;
      in
      {
        inherit (arguments) pathsToLink;
        paths = namesOf arguments.paths;
      };
    expected = {
      pathsToLink = [ "/lib" ];
      paths = [ "glib" ];
    };
  };
  "a wheel whose platform is not manylinux's is patched, too" = {
    expr =
      let
        inherit ((environment { }).torchvision) arguments;
      in
      {
        native = namesOf arguments.nativeBuildInputs;
        libraries = namesOf arguments.buildInputs;
      };
    expected = {
      native = [ "auto-patchelf-hook" ];
      libraries = [ "manylinux2014" ];
    };
  };
  "libraries of torch's wheel may be missing from another; with a driver, any" = {
    expr = map (
      driver:
      let
        inherit ((environment { inherit driver; }).torchvision) arguments;
      in
      builtins.filter (pattern: pattern == "*" || pattern == "libtorch*") arguments.autoPatchelfIgnoreMissingDeps
    ) [ false true ];
    expected = [ [ "libtorch*" ] [ "*" ] ];
  };
}
