# Debs unpacked into one tree, so that its Python can run on the build platform.
#
# Never part of an image: the Nix store keeps no owners, modes or times, so layers are made from the .deb files.
{ busybox, fetch, platform, system }:
{ python, debs, ... }:
let
  tree = derivation {
    name = "debian-python-${python}";
    inherit system;
    builder = "${busybox}/bin/busybox";
    args = [ "sh" "-eu" ../tools/unpack.sh ];
    PATH = "${busybox}/bin";
    debs = map fetch debs;
  };

  # By its own loader: the store has no /lib64, and no namespace is needed for this.
  program = name: [
    "${tree}/usr/lib/${platform.multiarch}/${platform.loader}"
    "--library-path"
    "${tree}/usr/lib/${platform.multiarch}"
    "${tree}/usr/bin/${name}"
  ];
in
{
  inherit program tree;
  version = python;
  command = program "python${python}";
}
