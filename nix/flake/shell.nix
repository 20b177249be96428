# The development shell: the user's own, with the image's programs first on PATH.
#
# interpreter: the model's Python, a path in the root; version: `3.N`.
# programs: a folder whose `bin` runs the image's programs in the image's root, and whose `start` is the shell.
# develop: what `nix develop` asks for, a derivation whose builder is called bash; Debian's static one is that.
{ busybox, fetch, python, runTool, system, tools }:
{ name, root, interpreter, version, variables, title }:
let
  # The user's own home is the home, so caches are where the user's other programs have theirs.
  homes = [
    "HOME"
    "USER"
    "LOGNAME"
    "HF_HOME"
    "TORCH_HOME"
    "NLTK_DATA"
    "KERAS_HOME"
    "CUDA_CACHE_PATH"
    "MPLCONFIGDIR"
    "NUMBA_CACHE_DIR"
    "TORCHINDUCTOR_CACHE_DIR"
    "TRITON_CACHE_DIR"
  ];

  programs = runTool {
    name = "tungsten-shell";
    tool = "shell_programs.py";
    config = {
      inherit interpreter name root title version;
      variables = builtins.removeAttrs variables homes;
      busybox = "${busybox}/bin/busybox";
      python = python.command;
      program = ../tools/enter_shell.py;
    };
  };

  static = derivation {
    name = "bash";
    inherit system;
    builder = "${busybox}/bin/busybox";
    args = [
      "sh"
      "-euc"
      ''
        busybox dpkg-deb -x "$deb" part
        busybox mkdir -p "$out/bin"
        busybox cp part/usr/bin/bash-static "$out/bin/bash"
      ''
    ];
    PATH = "${busybox}/bin";
    deb = fetch tools.bash;
  };
in
{
  inherit programs;

  develop = derivation {
    name = "tungsten-shell";
    inherit system;
    builder = "${static}/bin/bash";
    args = [ "-c" "echo > \"$out\"" ];
    # `nix develop` writes the environment to each output that this names.
    outputs = [ "out" ];
    PATH = "${programs}/bin";
    # Nix sets SHELL to a program that does not exist.
    shellHook = ''
      . ${programs}/env
      export SHELL=${static}/bin/bash
    '';
  };
}
