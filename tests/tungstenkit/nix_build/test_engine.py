"""Which engine there is, and what an image is called in it."""

import os
from pathlib import Path

import pytest

from tungstenkit.nix_build.engine import ask, find_engine, has_image, image_reference, load_image
from tungstenkit.nix_build.image import Image
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


ID, DIGEST = "b" * 64, f"sha256:{'d' * 64}"
IMAGE = Image(Path("/nix/store/0-blur-layout"), DIGEST, f"sha256:{ID}", 1)


@pytest.mark.parametrize(
    ("engine", "said", "expected"),
    [
        ("podman", f"{ID} {DIGEST}", True),
        ("podman", f"{'0' * 64} {DIGEST}", False),
        ("podman", f"{ID} sha256:{'0' * 64}", False),
        ("podman", ID, False),
        ("podman", "", False),
        ("docker", f"sha256:{ID}", True),
        ("docker", DIGEST, True),
        ("docker", f"sha256:{'0' * 64}", False),
    ],
)
def test_an_image_is_there_where_the_engine_has_that_very_one(tmp_path, monkeypatch, engine, said, expected):
    program(tmp_path / engine, f'echo "$@" > {tmp_path}/asked; echo {said}; test -n "{said}"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert has_image(IMAGE, engine, "localhost/blur:latest") is expected
    assert (tmp_path / "asked").read_text().endswith("-- localhost/blur:latest\n")


@pytest.mark.parametrize(
    ("reference", "calls"),
    [
        ("localhost/blur:latest", ["pull --quiet -- oci:blur", f"tag -- {ID} localhost/blur:latest"]),
        (
            "localhost/blur:v2",
            [
                "pull --quiet -- oci:0-blur-layout",
                f"tag -- {ID} localhost/blur:v2",
                f"untag {ID} localhost/0-blur-layout:latest",
            ],
        ),
        (
            "registry.example/blur:latest",
            [
                "pull --quiet -- oci:0-blur-layout",
                f"tag -- {ID} registry.example/blur:latest",
                f"untag {ID} localhost/0-blur-layout:latest",
            ],
        ),
    ],
)
def test_podman_keeps_no_name_of_an_image_but_the_one_it_is_to_have(tmp_path, monkeypatch, reference, calls):
    said = tmp_path / "said"
    program(tmp_path / "podman", f'echo "$@" >> {said}; if [ $1 = pull ]; then echo {ID}; fi')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    load_image(IMAGE, "podman", reference)
    assert said.read_text().splitlines() == calls


def test_ids_that_podman_lacks_are_what_helps(tmp_path, monkeypatch):
    said = "potentially insufficient UIDs or GIDs available in user namespace (requested 0:50 for /var/local)"
    program(tmp_path / "podman", f"echo '{said}' >&2; exit 125")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(BuildError, match="insufficient UIDs") as caught:
        load_image(IMAGE, "podman", "localhost/blur:latest")
    assert "podman system migrate" in caught.value.hint
    assert "`tungsten build --no-load`" in caught.value.hint


def program(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


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


def test_an_engine_that_says_nothing_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "podman").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(BuildError, match=r"podman has not answered for 0\.1 seconds") as caught:
        ask("podman", ["image", "ls", "--quiet"], patience=0.1)
    assert (caught.value.where, "`podman info`" in caught.value.hint) == ("podman image ls", True)
