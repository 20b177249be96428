# The first program: Debian's static busybox, with nothing but what Nix itself can do.
#
# A static 7-Zip from an npm package opens the .deb. The result is fixed by its own hash, so 7-Zip needs no trust,
# and `tungsten fetch` may put the same bytes there without it.
{ fetch, system, busybox }:
let
  sevenZip = {
    x86_64-linux = {
      program = "package/bin/linux/x64/7zzs";
      hash = "sha256-dgphNamFkXm9rLaEszuwWuLkeB8qmjath15ZXnTsXk0=";
    };
  };

  package = derivation {
    name = "7z-bin";
    builder = "builtin:unpack-channel";
    system = "builtin";
    src = fetch {
      file = "mirror://npm/7z-bin/-/7z-bin-0.0.8.tgz";
      sha256 = "04780337c15619c5faacba1e6634529ceca2f4091707caccf8d0814b4e3e8474";
    };
    channelName = "package";
  };

  # unpack-channel keeps no executable bit; a recursive fetch of the file sets it.
  program = derivation {
    name = "7zzs";
    builder = "builtin:fetchurl";
    system = "builtin";
    url = "file://${package}/${sevenZip.${system}.program}";
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = sevenZip.${system}.hash;
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
