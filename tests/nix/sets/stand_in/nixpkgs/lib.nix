# What we use of nixpkgs' lib.
{
  getLib = package: package.lib or package;
}
