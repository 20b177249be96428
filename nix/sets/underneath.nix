# What lies below the model's packages, with the variables that follow from it: of debian-root.nix or base-root.nix, and
# of the lock's CUDA.
#
# lowest: of one of those two. Gives the same and `cuda`.
{ locked, lowest }:
lowest
// {
  inherit (locked) cuda;
  environment =
    lowest.environment
    // (
      if locked.cuda == null then
        { }
      else
        {
          # torch, TensorFlow and JAX find the libraries of wheels by themselves; onnxruntime, CuPy and others ask the
          # loader by name. /usr/local/nvidia is where hosts that mount their driver put it, as NVIDIA's images expect.
          LD_LIBRARY_PATH = builtins.concatStringsSep ":" (
            [
              "/usr/local/nvidia/lib"
              "/usr/local/nvidia/lib64"
            ]
            ++ map (folder: "/${lowest.modelEnvironment.sitePackages}/${folder}") locked.cuda.libraries
          );
        }
    );
}
