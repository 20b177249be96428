# What an image says of its GPU and CUDA, to people and to container runtimes.
{ nix }:
let
  image = gpu: cuda: imageOf { inherit gpu; } { inherit cuda; };
  imageOf =
    spec: packageSet:
    nix.scope.bind {
      created = "2026-11-29T00:53:13Z";
      spec = {
        gpu = false;
        name = "m";
        mem-gb = 8;
        gpu-mem-gb = 16;
      }
      // spec;
      packageSet = {
        cuda = null;
        dockerTools.buildLayeredImage = given: given // { inherit given; };
        systemContents = [ ];
        commandContents = [ ];
        pythonContents = [ ];
        serverContents = [ ];
        fileContents = [ ];
        postBuildContents = [ ];
        sourceContents = [ ];
        python = "/p";
        tini = "/t";
        environment = { };
      }
      // packageSet;
    } nix.modelImage;
  labels = gpu: cuda: only (name: !isStandard name) (image gpu cuda).config.Labels;
  standard = made: only isStandard made.config.Labels;
  isStandard = name: builtins.match "org.opencontainers.image..*" name != null;
  only =
    wanted: set: removeAttrs set (builtins.filter (name: !wanted name) (builtins.attrNames set));
  variables =
    gpu: cuda:
    builtins.filter (line: builtins.match "(NVIDIA|LD)_.*" line != null) (image gpu cuda).config.Env;
  cuda = {
    version = "12.4";
    minimum-driver = "525.60.13";
  };
  environment =
    cuda:
    (nix.scope.bind rec {
      locked = {
        python = "3.11";
        inherit cuda;
      };
      lowest = nix.scope.bind {
        inherit locked;
        deb = null;
        platform = null;
      } nix.debianRoot;
    } nix.underneath).environment;
in
{
  "the loader finds the libraries of CUDA's wheels by name" = {
    expr = environment { libraries = [ "nvidia/cublas/lib" ]; };
    expected.LD_LIBRARY_PATH = builtins.concatStringsSep ":" [
      "/usr/local/nvidia/lib"
      "/usr/local/nvidia/lib64"
      "/usr/local/lib/python3.11/dist-packages/nvidia/cublas/lib"
    ];
  };
  "without CUDA the loader is left alone" = {
    expr = environment null;
    expected = { };
  };
  "an image for GPUs names its CUDA, and the oldest driver that will do" = {
    expr = labels true cuda;
    expected = {
      device = "gpu";
      mem_gb = "8";
      gpu_mem_gb = "16";
      cuda_version = "12.4";
      nvidia_driver_minimum = "525.60.13";
    };
  };
  "runtimes are asked for the driver, and refuse one of an older major version" = {
    expr = variables true cuda;
    expected = [
      "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
      "NVIDIA_REQUIRE_CUDA=cuda>=12.0"
      "NVIDIA_VISIBLE_DEVICES=all"
    ];
  };
  "a CUDA whose driver is not known demands no driver by number" = {
    expr = (labels true (cuda // { minimum-driver = null; })) ? nvidia_driver_minimum;
    expected = false;
  };
  "without CUDA a GPU is asked for all the same" = {
    expr = variables true null;
    expected = [
      "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
      "NVIDIA_VISIBLE_DEVICES=all"
    ];
  };
  "an image says what it is called, and when what it is made of was" = {
    expr = {
      labels = standard (imageOf { } { });
      inherit (imageOf { } { }) created;
    };
    expected = {
      labels = {
        "org.opencontainers.image.created" = "2026-11-29T00:53:13Z";
        "org.opencontainers.image.title" = "m";
      };
      created = "2026-11-29T00:53:13Z";
    };
  };
  "what pyproject.toml says is said of the image, and a LABEL has the last word, but for what is known here" = {
    expr = standard (
      imageOf {
        about = {
          version = "1";
          licenses = "MIT";
        };
        commands.labels = {
          "org.opencontainers.image.version" = "2";
          "org.opencontainers.image.revision" = "abc";
          "org.opencontainers.image.title" = "other";
        };
      } { }
    );
    expected = {
      "org.opencontainers.image.created" = "2026-11-29T00:53:13Z";
      "org.opencontainers.image.licenses" = "MIT";
      "org.opencontainers.image.revision" = "abc";
      "org.opencontainers.image.title" = "m";
      "org.opencontainers.image.version" = "2";
    };
  };
  "a base image is named, and what it says of itself is not said of what is made of it" = {
    expr =
      (imageOf { } {
        base = {
          reference = "images.example/base:1";
          digest = "sha256:00";
          environment = { };
          exposed-ports = [ ];
          labels = {
            maintainer = "somebody";
            "org.opencontainers.image.version" = "22.04";
          };
        };
      }).config.Labels;
    expected = {
      device = "cpu";
      maintainer = "somebody";
      mem_gb = "8";
      "org.opencontainers.image.base.digest" = "sha256:00";
      "org.opencontainers.image.base.name" = "images.example/base:1";
      "org.opencontainers.image.created" = "2026-11-29T00:53:13Z";
      "org.opencontainers.image.title" = "m";
    };
  };
  "an export is named where a package set can do so" = {
    expr = {
      debian = (imageOf { } { exportParts.nix = "/n"; }).given.exportParts or null;
      nixpkgs = (imageOf { } { exportParts = null; }).given ? exportParts;
    };
    expected = {
      debian.nix = "/n";
      nixpkgs = false;
    };
  };
  "an image without a GPU asks for none, even where CUDA could not be avoided" = {
    expr = {
      labels = labels false cuda;
      variables = variables false cuda;
    };
    expected = {
      labels = {
        device = "cpu";
        mem_gb = "8";
      };
      variables = [ ];
    };
  };
}
