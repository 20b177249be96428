# What sealing runs before a lock can be built: `nix-build seal.nix` with a lock that is not sealed yet.
#
# lock: its path. system, project: which of its sources to build.
{ lock, system, project }:
let
  theLock = builtins.fromJSON (builtins.readFile lock);
  locked = theLock.platforms.${system};
  source = import ./source.nix {
    inherit system;
    inherit (locked) python;
    platform = (import ./platforms.nix).${system};
    tools = theLock.tools.${system};
    # All that it needs is in the store: sealing has put it there.
    fetch = import ./fetch.nix {
      storeName = import ./store-name.nix;
      sources = { };
    };
  };
  wanted = builtins.head (builtins.filter (entry: entry.project == project) locked.sources);
in
(source wanted).built
