"""What tungsten's own image is made of: its lock is made of this as any model's is, by `tungsten lock builder`.

A model in name only. `image.nix` puts the same packages into an image that starts `tungsten`.
"""

from tungstenkit import BaseIO, define_model


class Nothing(BaseIO):
    """What a builder is asked is its command line."""


@define_model(
    input=Nothing,
    output=Nothing,
    python_version="3.13",
    # The dependencies of ../pyproject.toml; a test compares.
    python_packages=[
        "cryptography>=43",
        "dockerfile-parse>=2",
        "packaging>=24.2",
        "pathspec>=0.12",
        "pillow>=10",
        "pydantic>=2.7",
        "pyelftools>=0.32",
        "pysequoia>=0.1.30",
        "requests>=2.31",
        "rich>=14.1",
        "solv>=0.7.30",
        "tomli-w>=1.2",
        "typer>=0.12",
        "urllib3>=2.2",
        "uv>=0.8",
        "watchfiles>=1.0",
        "flask>=3",
        "jsonschema-rs>=0.29",
        "prometheus-client>=0.21",
        "waitress>=3,<4",
    ],
    system_packages=[
        "apt",  # has an example of its sources: where Debian's packages come from
        "docker-cli",  # loads an image through an engine's socket
        "git",
        "nix-bin",
        "skopeo",
        "tar",
    ],
)
class Tungsten:
    """Not to be run: whoever asks for predictions wants another image."""

    def predict(self, inputs: list[Nothing]) -> list[Nothing]:
        """Refuse."""
        raise NotImplementedError("this image builds models; it is none")
