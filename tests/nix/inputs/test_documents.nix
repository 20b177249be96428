# Documents are checked before anything in them is believed.
{ nix }:
let
  lock =
    change:
    nix.documents.checkLock (
      {
        lock-version = 1;
        package-set = "debian";
        sealed = true;
      }
      // change
    );
  refused = change: !(builtins.tryEval (lock change)).success;
in
{
  "a lock of the known version is read" = {
    expr = (lock { }).package-set;
    expected = "debian";
  };
  "a lock of another version is refused" = {
    expr = refused { lock-version = 2; };
    expected = true;
  };
  "a lock that is not sealed is refused" = {
    expr = refused { sealed = false; };
    expected = true;
  };
  "a lock for another package set is refused" = {
    expr = refused { package-set = "nixpkgs"; };
    expected = true;
  };
  "a missing lock is refused" = {
    expr = (builtins.tryEval (nix.documents.lock /nonexistent/tungsten.lock)).success;
    expected = false;
  };
  "a missing sources.json means that no URL is known" = {
    expr = nix.documents.sources /nonexistent/sources.json;
    expected = { };
  };
}
