# One derivation that runs one of `nix/tools/`: JSON in, a file or a folder out.
#
# It depends on its own inputs, on the program and on the tool root alone, so that models share layers.
#
# python: the root that runs it. more: further attributes of the derivation.
{ busybox, programs, python, system }:
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
      programs.${tool}.path
    ];
    config = builtins.toJSON config;
    passAsFile = [ "config" ];
  }
  // more
)
