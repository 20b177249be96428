# A lock's deb to a content of an image: what `dockerTools.buildLayeredImage` takes in its `contents`.
{ fetch }:
deb: {
  layer = "debian-${deb.group}";
  label = "${deb.name} ${deb.version}";
  inherit (deb) size;
  inputs = [
    {
      kind = "deb";
      path = fetch deb;
    }
  ];
  byteCode = true;
}
