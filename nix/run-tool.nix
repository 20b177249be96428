# One derivation that runs one of `nix/tools/`: JSON in, a file or a folder out.
#
# It depends on its own inputs and on the tool root alone, so that models share layers.
#
# more: further attributes of the derivation.
{ busybox, python, system }:
let
  tools = builtins.path {
    name = "tungsten-tools";
    path = ./tools;
    filter = path: _type: builtins.match ".*\\.py" path != null;
  };
in
{ name, tool, config, more ? { } }:
derivation (
  {
    inherit name system;
    builder = "${busybox}/bin/busybox";
    # Arguments can't name the file that `config` is passed in, so a shell adds it.
    args = [
      "sh"
      "-c"
      "exec \"$@\" \"$configPath\" \"$out\""
      tool
    ]
    ++ python.command
    ++ [
      "-I"
      "-S"
      "-B"
      "${tools}/${tool}"
    ];
    config = builtins.toJSON config;
    passAsFile = [ "config" ];
  }
  // more
)
