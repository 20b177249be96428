"""Which engine there is, and what an image is called in it."""

import pytest

from tungstenkit.nix_build.engine import find_engine, image_reference
from tungstenkit.sdk.errors import BuildError


@pytest.mark.parametrize(
    ("name", "tag", "engine", "expected"),
    [
        ("blur", "latest", "podman", "localhost/blur:latest"),
        ("team/blur", "v1.2", "podman", "localhost/team/blur:v1.2"),
        ("registry.example:5000/team/blur", "v1", "podman", "registry.example:5000/team/blur:v1"),
        ("localhost/blur", "x", "podman", "localhost/blur:x"),
        ("registry:5000/blur", "x", "podman", "registry:5000/blur:x"),
        ("blur", "latest", "docker", "blur:latest"),
        ("blur", "latest", None, "blur:latest"),
    ],
)
def test_a_reference_is_what_the_engine_calls_it(name, tag, engine, expected):
    assert image_reference(name, tag, engine) == expected


@pytest.mark.parametrize(
    ("name", "tag"), [("Blur", "x"), ("", "x"), ("a b", "x"), ("blur:v3", "x"), ("blur", "a b"), ("blur", "")]
)
def test_a_name_that_no_engine_takes_is_refused(name, tag):
    with pytest.raises(BuildError, match="is not a"):
        image_reference(name, tag, "podman")


class TestEngine:
    @pytest.fixture
    def installed(self, tmp_path, monkeypatch):
        """Makes PATH hold these programs alone; a docker without a daemon fails."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("TUNGSTEN_ENGINE", raising=False)

        def install(*names, daemon=True):
            for name in names:
                (tmp_path / name).write_text(f"#!/bin/sh\nexit {0 if daemon else 1}\n")
                (tmp_path / name).chmod(0o755)

        return install

    def test_podman_comes_first(self, installed):
        installed("podman", "docker")
        assert find_engine() == "podman"

    def test_docker_counts_with_a_daemon(self, installed):
        installed("docker", daemon=False)
        assert find_engine() is None
        installed("docker")
        assert find_engine() == "docker"

    def test_the_environment_chooses(self, installed, monkeypatch):
        installed("podman", "docker")
        monkeypatch.setenv("TUNGSTEN_ENGINE", "docker")
        assert find_engine() == "docker"

    @pytest.mark.parametrize("engine", ["podman", "docker", "rkt"])
    def test_a_choice_that_is_not_there_is_an_error(self, installed, monkeypatch, engine):
        monkeypatch.setenv("TUNGSTEN_ENGINE", engine)
        with pytest.raises(BuildError, match=engine) as caught:
            find_engine()
        assert caught.value.where == "TUNGSTEN_ENGINE"
