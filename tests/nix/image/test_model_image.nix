# What an image says of its GPU and CUDA, to people and to container runtimes.
{ nix }:
let
  image =
    gpu: cuda:
    nix.scope.bind {
      spec = {
        inherit gpu;
        name = "m";
        mem-gb = 8;
        gpu-mem-gb = 16;
      };
      packageSet = {
        inherit cuda;
        dockerTools.buildLayeredImage = given: given;
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
      };
    } nix.modelImage;
  labels = gpu: cuda: removeAttrs (image gpu cuda).config.Labels [ "org.opencontainers.image.title" ];
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
