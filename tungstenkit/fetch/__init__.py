"""Where bytes come from, and their way into the Nix store.

In come what this machine's own clients are set up to ask, and hashes; out come files that have them. Hosts come from
here alone."""
