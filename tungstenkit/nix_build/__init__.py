"""An export becomes an image: the only caller of `nix build`, and what a failed build lacks.

In goes a flake; out come the image's files and digest, or an error that says what the model lacks. `seal` and what is
above import it."""
