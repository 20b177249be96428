# The image of a model, written once against the interface that every package set offers:
#
#   dockerTools.buildLayeredImage   nixpkgs' arguments
#   systemContents                  the root: base system, Python, system packages
#   pythonContents                  the model's Python packages and the SDK
#   serverContents                  the server's own environment
#   sourceContents                  the model's files and its spec
#   python, tini                    paths of programs in the image: the server's interpreter, PID 1
#   cuda                            the lock's CUDA, or null
#   environment                     variables that only this package set needs
{ packageSet, spec }:
let
  when = condition: attributes: if condition then attributes else { };

  # Without a GPU it is only ballast.
  cuda = if spec.gpu then packageSet.cuda else null;

  home = "/home/nonroot";
  variables = {
    HOME = home;
    USER = "nonroot";
    LOGNAME = "nonroot";
    LANG = "C.UTF-8";
    PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    SSL_CERT_FILE = "/etc/ssl/certs/ca-certificates.crt";
    PYTHONUNBUFFERED = "1";
    # The root may be read-only, and byte-code is in the image already.
    PYTHONDONTWRITEBYTECODE = "1";
    # What a build downloads must be found at run time: below HOME.
    HF_HOME = "${home}/.cache/huggingface";
    TORCH_HOME = "${home}/.cache/torch";
    NLTK_DATA = "${home}/nltk_data";
    KERAS_HOME = "${home}/.keras";
    # What is compiled at run time is thrown away with the container.
    CUDA_CACHE_PATH = "/tmp/cuda";
    MPLCONFIGDIR = "/tmp/matplotlib";
    NUMBA_CACHE_DIR = "/tmp/numba";
    TORCHINDUCTOR_CACHE_DIR = "/tmp/torchinductor";
    TRITON_CACHE_DIR = "/tmp/triton";
  }
  // packageSet.environment
  # What container runtimes read to put the host's driver into a container.
  // when spec.gpu {
    NVIDIA_VISIBLE_DEVICES = "all";
    NVIDIA_DRIVER_CAPABILITIES = "compute,utility";
  }
  # Every driver for the major version will do (CUDA's minor version compatibility).
  // when (cuda != null) {
    NVIDIA_REQUIRE_CUDA = "cuda>=${builtins.head (builtins.split "[.]" cuda.version)}.0";
  };
in
packageSet.dockerTools.buildLayeredImage {
  inherit (spec) name;
  tag = "latest";
  contents =
    packageSet.systemContents
    ++ packageSet.pythonContents
    ++ packageSet.serverContents
    ++ packageSet.sourceContents;
  config = {
    Entrypoint = [
      packageSet.tini
      "--"
      packageSet.python
      # Isolated: the working directory is the model's, and must not shadow the server's modules.
      "-I"
      "-m"
      "tungsten_server"
      "--spec"
      "/opt/tungsten/spec.json"
    ];
    Env = map (name: "${name}=${variables.${name}}") (builtins.attrNames variables);
    ExposedPorts."3000/tcp" = { };
    Labels = {
      "org.opencontainers.image.title" = spec.name;
      device = if spec.gpu then "gpu" else "cpu";
      mem_gb = toString spec.mem-gb;
    }
    // when spec.gpu { gpu_mem_gb = toString spec.gpu-mem-gb; }
    // when (cuda != null) { cuda_version = cuda.version; }
    // when (cuda.minimum-driver or null != null) { nvidia_driver_minimum = cuda.minimum-driver; };
    User = "65532:0";
    WorkingDir = "/app";
  };
}
