# The variables that an image's processes see, by name; the same while it is built as when it runs.
#
# underneath: what the image is made of: its `base`, `cuda` and `environment`. spec: the document's value. set: those of
# dockerfile_commands, which win; a value may have holes, where variables of ours are meant.
{ underneath, spec, set ? spec.commands.environment or { } }:
let
  # Without a GPU it is only ballast.
  cuda = if spec.gpu then underneath.cuda else null;

  text =
    value:
    if builtins.isString value then
      value
    else if builtins.isList value then
      builtins.concatStringsSep "" (map text value)
    else
      hole value (ours.${value.variable} or "");

  hole =
    value: found:
    if found == "" then
      text (value.if-empty or "")
    else if value ? if-set then
      text value.if-set
    else
      found;

  when = condition: attributes: if condition then attributes else { };
  home = "/home/nonroot";

  # A base image's own count where ours say nothing; its folders come first.
  over =
    base: ours:
    let
      folders = path: builtins.filter (part: builtins.isString part && part != "") (builtins.split ":" path);
      both =
        name:
        let
          first = folders base.${name};
          more = builtins.filter (folder: !builtins.elem folder first) (folders ours.${name});
        in
        when (base ? ${name} && ours ? ${name}) { ${name} = builtins.concatStringsSep ":" (first ++ more); };
    in
    base // ours // both "PATH" // both "LD_LIBRARY_PATH";

  ours = over (if underneath.base or null == null then { } else underneath.base.environment) ({
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
  // underneath.environment
  # What container runtimes read to put the host's driver into a container.
  // when spec.gpu {
    NVIDIA_VISIBLE_DEVICES = "all";
    NVIDIA_DRIVER_CAPABILITIES = "compute,utility";
  }
  # Every driver for the major version will do (CUDA's minor version compatibility).
  // when (cuda != null) {
    NVIDIA_REQUIRE_CUDA = "cuda>=${builtins.head (builtins.split "[.]" cuda.version)}.0";
  });
in
ours // builtins.mapAttrs (_name: text) set
