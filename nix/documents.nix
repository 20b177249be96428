# The only reader of JSON: the documents of an export, their versions checked, errors with the document's name.
let
  read =
    path: what: versionKey: version:
    let
      document = builtins.fromJSON (builtins.readFile path);
      found = document.${versionKey} or null;
    in
    if !builtins.pathExists path then
      throw "tungsten: there is no ${what} (${toString path}); run `tungsten nix-export` again"
    else if found != version then
      throw ''
        tungsten: ${what} has ${versionKey} ${builtins.toJSON found}; this nix/ reads ${toString version}.
        Export again with one version of tungsten''
    else
      document;
in
{
  spec = path: read path "spec.json" "spec-version" 1;

  lock =
    path:
    let
      lock = read path "tungsten.lock" "lock-version" 1;
    in
    if lock.package-set != "debian" then
      throw "tungsten: the lock is for the package set ${lock.package-set}; this export builds `debian`"
    else if !lock.sealed then
      throw "tungsten: the lock is not sealed; run `tungsten lock`, then export again"
    else
      lock;

  # Where bytes come from is no part of a lock, and may be unknown.
  sources = path: if builtins.pathExists path then builtins.fromJSON (builtins.readFile path) else { };
}
