"""A spec, a lock and a model's files become a flake that needs nothing of ours.

In come values, and files by their paths; out goes a folder. Nothing is asked of the network, and but for
`sources.json` the same comes out everywhere. `project` and the command line import it."""
