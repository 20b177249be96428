# What sealing runs before a lock can be built: `nix-build seal.nix` with a lock that is not sealed yet.
#
# lock: its path. system, project: which of its sources to build.
{ lock, system, project }:
let
  nix = import ../.;
  theLock = builtins.fromJSON (builtins.readFile lock);
  locked = theLock.platforms.${system};
  builder = nix.scope.builder {
    inherit system;
    tools = theLock.tools.${system};
    # All that it needs is in the store: sealing has put it there.
    fetch = nix.scope.bind { sources = { }; } nix.fetch;
  };
  wanted = builtins.head (builtins.filter (entry: entry.project == project) locked.sources);
in
(builder.source locked.python wanted).built
