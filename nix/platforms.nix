# What each platform is called by whom, and where its loader stands.
{
  x86_64-linux = {
    debian = "amd64";
    oci = "amd64";
    multiarch = "x86_64-linux-gnu";
    loader = "ld-linux-x86-64.so.2";
  };
}
