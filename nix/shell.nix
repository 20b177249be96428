# A thin development shell: the model's Python version, as Debian builds it, and busybox's tools; no nixpkgs.
#
# `nix develop` asks for a derivation whose builder is called bash; Debian's static one is that.
{ busybox, fetch, system, bash, python }:
let
  run =
    name: script: variables:
    derivation (
      variables
      // {
        inherit name system;
        builder = "${busybox}/bin/busybox";
        args = [ "sh" "-euc" script ];
        PATH = "${busybox}/bin";
      }
    );

  shell = run "bash" ''
    busybox dpkg-deb -x "$deb" part
    busybox mkdir -p "$out/bin"
    busybox cp part/usr/bin/bash-static "$out/bin/bash"
  '' { deb = fetch bash; };

  programs =
    run "shell-programs"
      ''
        busybox mkdir -p "$out/bin"
        for name in $(busybox --list); do
          busybox ln -s "$(busybox which busybox)" "$out/bin/$name"
        done
        busybox rm -f "$out/bin/sh"
        busybox ln -s "$shell/bin/bash" "$out/bin/sh"
        busybox ln -s "$shell/bin/bash" "$out/bin/bash"
        printf '#!%s\nexec %s "$@"\n' "$shell/bin/bash" "$command" > "$out/bin/python$version"
        busybox chmod +x "$out/bin/python$version"
        busybox ln -s "python$version" "$out/bin/python3"
      ''
      {
        inherit shell;
        inherit (python) version;
        command = builtins.concatStringsSep " " python.command;
      };
in
derivation {
  name = "tungsten-shell";
  inherit system;
  builder = "${shell}/bin/bash";
  args = [ "-c" "echo > \"$out\"" ];
  # `nix develop` writes the environment to each output that this names.
  outputs = [ "out" ];
  PATH = "${programs}/bin";
  # Nix sets it to a program that does not exist.
  shellHook = "export SHELL=${shell}/bin/bash";
}
