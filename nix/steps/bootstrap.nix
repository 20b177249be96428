# The first program: Debian's static busybox, with nothing but what Nix itself can do.
#
# A static 7-Zip from an npm package opens the .deb. The result is fixed by its own hash, so 7-Zip needs no trust,
# and `tungsten fetch` may put the same bytes there without it.
#
# tools: the lock's, for the system.
{ fetch, system, tools }:
let
  inherit (tools) busybox;
  sevenZip = (builtins.fromJSON (builtins.readFile ./bootstrap.json)).seven-zip;
  pinned = sevenZip.programs.${system};

  package = derivation {
    name = "7z-bin";
    builder = "builtin:unpack-channel";
    system = "builtin";
    src = fetch sevenZip;
    channelName = "package";
  };

  # unpack-channel keeps no executable bit; a recursive fetch of the file sets it.
  program = derivation {
    name = "7zzs";
    builder = "builtin:fetchurl";
    system = "builtin";
    url = "file://${package}/${pinned.path}";
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = pinned.sha256;
    executable = true;
    unpack = false;
    preferLocalBuild = true;
    allowedReferences = [ ];
  };

  data = derivation {
    name = "busybox-data";
    inherit system;
    builder = program;
    args = [ "x" (fetch busybox) "-o${builtins.placeholder "out"}" "data.tar" ];
  };
in
# A folder, not a file: busybox finds its applet by its own name, and a store path's name begins with a hash.
derivation {
  name = "busybox";
  inherit system;
  builder = program;
  args = [
    "e"
    "${data}/data.tar"
    "-o${builtins.placeholder "out"}/bin"
    "./usr/bin/busybox"
  ];
  outputHashMode = "recursive";
  outputHashAlgo = "sha256";
  outputHash = busybox.tree-sha256;
  allowedReferences = [ ];
}
