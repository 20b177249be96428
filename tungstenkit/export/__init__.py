"""A spec, a lock and a model's files become a flake that needs nothing of ours. Pure, but for the files it writes."""
