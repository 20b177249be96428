# Documents are checked before anything in them is believed.
{ nix }:
let
  lock =
    change:
    nix.documents.checkLock (
      {
        lock-version = 3;
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
  "a lock of the versions before is read, too" = {
    expr = map (version: (lock { lock-version = version; }).package-set) [ 1 2 ];
    expected = [ "debian" "debian" ];
  };
  "a lock of another version is refused" = {
    expr = map refused [
      { lock-version = 4; }
      { lock-version = "3"; }
    ];
    expected = [ true true ];
  };
  "a lock that is not sealed is refused" = {
    expr = refused { sealed = false; };
    expected = true;
  };
  "a lock for another package set is refused" = {
    expr = refused { package-set = "nixpkgs"; };
    expected = true;
  };
  "a lock that says it otherwise than a lock does is refused" = {
    expr = map refused [
      { package-set = { }; }
      { package-set = null; }
      { sealed = "true"; }
      { sealed = null; }
    ];
    expected = [ true true true true ];
  };
  "what is no lock is refused" = {
    expr = map (document: (builtins.tryEval (nix.documents.checkLock document)).success) [
      { }
      { lock-version = 1; }
      {
        lock-version = 1;
        package-set = "debian";
      }
    ];
    expected = [ false false false ];
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
