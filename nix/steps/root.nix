# Debs unpacked into one tree, so that its Python can run on the build platform.
#
# Never part of an image: the Nix store keeps no owners, modes or times, so layers are made from the .deb files.
#
# compiled: whether its modules have byte-code, without which each program takes 0.2 s to start. What compiles for
# images has none: from what its own modules were read shows in what it compiles.
{ busybox, fetch, platform, system }:
{ python, debs, compiled ? false, ... }:
let
  # By its own loader: the store has no /lib64, and no namespace is needed for this.
  programIn = tree: name: [
    "${tree}/usr/lib/${platform.multiarch}/${platform.loader}"
    "--library-path"
    "${tree}/usr/lib/${platform.multiarch}"
    "${tree}/usr/bin/${name}"
  ];
  program = programIn tree;

  # Of the store's files every time is the same, so none is compared (PEP 552).
  compile = {
    args = [
      "sh"
      "-euc"
      ''
        . ${../tools/unpack.sh}
        ${toString (programIn "$out" "python${python}")} -s -S -B -m compileall -q -s "$out" \
          --invalidation-mode unchecked-hash "$out/usr/lib/python${python}"
      ''
    ];
    PYTHONHASHSEED = "0";
  };

  tree = derivation (
    {
      name = "debian-python-${python}";
      inherit system;
      builder = "${busybox}/bin/busybox";
      args = [ "sh" "-eu" ../tools/unpack.sh ];
      PATH = "${busybox}/bin";
      debs = map fetch debs;
    }
    // (if compiled then compile else { })
  );
in
{
  inherit program tree;
  version = python;
  command = program "python${python}";
}
