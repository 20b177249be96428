# An image's root as folders that lie over each other, the lowest first: links named by number, and beside them the
# program that can lay them. Apart, because what changes with the model must not make what takes long to unpack again.
{ busybox, system }:
parts:
derivation {
  name = "root-parts";
  inherit parts system;
  builder = "${busybox}/bin/busybox";
  args = [
    "sh"
    "-euc"
    ''
      busybox mkdir "$out"
      number=0
      for part in $parts; do
        busybox ln -s "$part" "$out/$number"
        number=$((number + 1))
      done
      busybox ln -s "$busybox" "$out/busybox"
    ''
  ];
  PATH = "${busybox}/bin";
  busybox = "${busybox}/bin/busybox";
}
