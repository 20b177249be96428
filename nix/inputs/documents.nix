# The only reader of JSON: the documents of an export, their versions checked, errors with the document's name.
let
  read =
    path: what:
    if builtins.pathExists path then
      builtins.fromJSON (builtins.readFile path)
    else
      throw "tungsten: there is no ${what} (${toString path}); run `tungsten nix-export` again";

  checkVersion =
    what: key: versions: document:
    let
      found = document.${key} or null;
    in
    if builtins.elem found versions then
      document
    else
      throw ''
        tungsten: ${what} has ${key} ${builtins.toJSON found}; this nix/ reads ${toString versions}.
        Export again with one version of tungsten'';
in
rec {
  spec = path: checkVersion "spec.json" "spec-version" [ 1 ] (read path "spec.json");

  lock = lockOf "debian";
  lockOf = packageSet: path: checkLockOf packageSet (read path "tungsten.lock");

  checkLock = checkLockOf "debian";
  checkLockOf =
    packageSet: document:
    let
      lock = checkVersion "tungsten.lock" "lock-version" [ 1 2 3 ] document;
      # Whoever has changed the lock may have put anything there.
      found = lock.package-set or null;
    in
    if found != packageSet then
      throw "tungsten: the lock is for the package set ${builtins.toJSON found}; this export builds `${packageSet}`"
    else if (lock.sealed or null) != true then
      throw "tungsten: the lock is not sealed; run `tungsten lock`, then export again"
    else
      lock;

  # A model without big files, such as this repository's examples, needs none.
  files = path: if path != null && builtins.pathExists path then read path "files.json" else [ ];

  # Where bytes come from is no part of a lock, and may be unknown.
  sources = path: if builtins.pathExists path then read path "sources.json" else { };
}
