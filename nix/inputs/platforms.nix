# What each platform is called by whom, and its loader, which stands in the folder of its multiarch triplet.
{
  x86_64-linux = {
    debian = "amd64";
    oci = "amd64";
    multiarch = "x86_64-linux-gnu";
    loader = "ld-linux-x86-64.so.2";
  };
  aarch64-linux = {
    debian = "arm64";
    oci = "arm64";
    multiarch = "aarch64-linux-gnu";
    loader = "ld-linux-aarch64.so.1";
  };
}
