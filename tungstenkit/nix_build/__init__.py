"""An export becomes an image: the only caller of `nix build`, and what a failed build or a failing model lacks.

In goes a flake; out come the image's files and digest, or an error that says what the model lacks. `faults` reads the
like out of a server's log. `seal` and what is above import it."""
