# A fetched file's store path depends on its name and hash alone.
{ nix }:
let
  entry = {
    file = "mirror://debian/pool/main/t/tini/tini_0.19.0-1_amd64.deb";
    sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  };
  from =
    sources:
    nix.scope.bind { inherit sources; } nix.fetch entry;
  somewhere = from { ${entry.sha256} = [ "https://mirror.invalid/tini.deb" ]; };
in
{
  "the mirror does not change the path" = {
    expr = somewhere.outPath == (from { }).outPath;
    expected = true;
  };
  "the first URL is used" = {
    expr = somewhere.url;
    expected = "https://mirror.invalid/tini.deb";
  };
  "without a URL the message names tungsten fetch" = {
    expr = builtins.match "run-tungsten-fetch.*" (from { }).url != null;
    expected = true;
  };
  "a URL that is not of the web is refused" = {
    expr =
      map (url: (builtins.tryEval (from { ${entry.sha256} = [ url ]; }).url).success)
        [ "file:///etc/passwd" "scp://host/x" "https://host/a b" "-o" "" "HTTPS://host/x" ];
    expected = [ false false false false false true ];
  };
  "no output may mention a store path" = {
    expr = somewhere.allowedReferences;
    expected = [ ];
  };
}
