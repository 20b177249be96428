# The image of a model, written once against the interface that every package set offers:
#
#   dockerTools.buildLayeredImage   nixpkgs' arguments
#   systemContents                  the root: base system, Python, system packages
#   commandContents                 what dockerfile_commands made
#   pythonContents                  the model's Python packages and the SDK
#   serverContents                  the server's own environment
#   fileContents                    declared downloads
#   fileVariables                   what programs that read those need to know; may be missing
#   postBuildContents               what post_build made
#   sourceContents                  the model's files and its spec
#   python, tini                    paths of programs in the image: the server's interpreter, PID 1
#   modelPython                     the model's interpreter
#   cuda                            the lock's CUDA, or null
#   checks                          variables -> derivations that must succeed before there is an image; optional
#   root                            rootParts of the whole image; optional
#   environment                     variables that only this package set needs
#   base                            what a base image's configuration says that is taken over: environment, labels,
#                                   exposed-ports, with its reference and digest; or null
#   exportParts                     what the image's export is named by; or null
#
# spec: the document's value. created: when the image was made (date-of.nix).
{ environment, packageSet, spec, created ? "1970-01-01T00:00:01Z" }:
let
  when = condition: attributes: if condition then attributes else { };

  # Without a GPU it is only ballast.
  cuda = if spec.gpu then packageSet.cuda else null;
  nothing = {
    labels = { };
    exposed-ports = [ ];
  };
  base = if packageSet.base or null == null then nothing else packageSet.base;
  commands = spec.commands or { };

  # Names that the image specification gives (OCI image specification, "Annotations").
  standard = "org.opencontainers.image.";
  named =
    values:
    builtins.listToAttrs (
      map (name: {
        name = standard + name;
        value = values.${name};
      }) (builtins.attrNames values)
    );
  # What a base says of itself by them is not said of what is made of it.
  ofBase = builtins.removeAttrs base.labels (
    builtins.filter (name: builtins.match "org[.]opencontainers[.]image[.].*" name != null) (
      builtins.attrNames base.labels
    )
  );
  variables = environment { underneath = packageSet; inherit spec; } // packageSet.fileVariables or { };
in
packageSet.dockerTools.buildLayeredImage ({
  inherit (spec) name;
  inherit created;
  tag = "latest";
  contents =
    packageSet.systemContents
    ++ packageSet.commandContents
    ++ packageSet.pythonContents
    ++ packageSet.serverContents
    ++ packageSet.fileContents
    ++ packageSet.postBuildContents
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
    ]
    # The server knows Debian's by itself.
    ++ (if packageSet.base or null == null then [ ] else [ "--model-python" packageSet.modelPython ]);
    Env = map (name: "${name}=${variables.${name}}") (builtins.attrNames variables);
    ExposedPorts = builtins.listToAttrs (
      map (port: {
        name = port;
        value = { };
      }) ([ "3000/tcp" ] ++ base.exposed-ports ++ commands.ports or [ ])
    );
    Labels = ofBase // named (spec.about or { }) // commands.labels or { } // named {
      inherit created;
      title = spec.name;
    }
    // when (base ? reference) (named {
      "base.name" = base.reference;
      "base.digest" = base.digest;
    })
    // {
      device = if spec.gpu then "gpu" else "cpu";
      mem_gb = toString spec.mem-gb;
    }
    // when spec.gpu { gpu_mem_gb = toString spec.gpu-mem-gb; }
    // when (cuda != null) { cuda_version = cuda.version; }
    // when (cuda.minimum-driver or null != null) { nvidia_driver_minimum = cuda.minimum-driver; };
    User = if commands.user or null == null then "65532:0" else commands.user;
    WorkingDir = "/app";
  };
}
# nixpkgs has no such arguments.
// when (packageSet ? checks) { requires = packageSet.checks variables; }
// when (packageSet.exportParts or null != null) { inherit (packageSet) exportParts; })
// when (packageSet ? root) { inherit (packageSet) root; }
