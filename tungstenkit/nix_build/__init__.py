"""An export becomes an image: the only callers of `nix build`, and what a failed build means.

In goes a flake; out come the image's files and digest, or an error that says what the model lacks. `seal` and what is
above import it."""
