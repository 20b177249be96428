"""What an engine says of our images and containers, and what it is told."""

import json
import os

import pytest

from tungstenkit.nix_build import loaded
from tungstenkit.sdk.errors import BuildError

ONE, TWO, OTHER = ("1" * 64, "2" * 64, "3" * 64)
ENTRYPOINT = ["/usr/bin/tini", "--", "python3", "-I", "-m", "tungsten_server"]


def image(identity, layers=("sha256:a", "sha256:b"), **more):
    return {
        "Id": identity,
        "Digest": f"sha256:{'d' * 64}",
        "RepoTags": ["localhost/blur:latest"],
        "Architecture": "amd64",
        "Size": 300,
        "Config": {
            "Labels": {"mem_gb": "1", "device": "cpu", "org.opencontainers.image.title": "blur"},
            "Entrypoint": ENTRYPOINT,
        },
        "RootFS": {"Layers": list(layers)},
    } | more


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A podman that says what is put here by its first two words, and notes what it was told."""
    said = {}
    script = [f'#!/bin/sh\necho "$*" >> {tmp_path}/told', f'cat "{tmp_path}/$1-$2" 2>/dev/null || exit 125']
    (tmp_path / "podman").write_text("\n".join(script) + "\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def say(words, answer):
        text = answer if isinstance(answer, str) else json.dumps(answer)
        (tmp_path / words.replace(" ", "-")).write_text(text)
        return said

    say.told = lambda: (tmp_path / "told").read_text().splitlines()
    return say


def test_images_of_ours_are_those_with_our_labels_and_our_server(engine):
    engine("image ls", f"sha256:{ONE}\n{TWO}\n{OTHER}\n")
    others = [
        image(TWO, Config={"Labels": {"mem_gb": "1", "device": "cpu"}, "Entrypoint": ["sh"]}),
        image(OTHER, Config={"Labels": None, "Entrypoint": None}),
    ]
    engine("image inspect", [image(ONE), *others])
    (found,) = loaded.images("podman")
    assert (found.image_id, found.platform, found.title) == (f"sha256:{ONE}", "x86_64-linux", "blur")
    assert found.names == ("localhost/blur:latest",)
    assert engine.told()[1] == f"image inspect -- sha256:{ONE} {TWO} {OTHER}"


@pytest.mark.parametrize("listed", ["", "--all\n-f\n$(x)\n../../etc\n", f"{ONE[:12]}\n"])
def test_what_is_no_id_is_never_given_back_to_an_engine(engine, listed):
    engine("image ls", listed)
    assert loaded.images("podman") == []
    assert len(engine.told()) == 1


def test_nor_is_a_name_that_no_engine_takes(engine):
    engine("image ls", ONE)
    engine("image inspect", [image(ONE, RepoTags=["--force", "x\x1b[31m:1", "Blur:1", "ok:1"])])
    assert loaded.images("podman")[0].names == ("ok:1",)


@pytest.mark.parametrize("said", ["", "null", "{}", "[1, null]", '[{"Id": "x"}]', "no json"])
def test_what_an_engine_should_not_say_is_nothing(engine, said):
    engine("image ls", ONE)
    engine("image inspect", said)
    assert loaded.images("podman") == []


def test_an_engine_that_fails_is_told_of(engine):
    with pytest.raises(BuildError, match="podman refused"):
        loaded.images("podman")


@pytest.mark.parametrize("name", ["-f", "--all", "a b", "x\x1b", ""])
def test_what_a_user_calls_an_image_is_a_name(engine, name):
    with pytest.raises(BuildError, match="is no reference"):
        loaded.image("podman", name)


def test_anybody_elses_image_is_none_of_ours(engine):
    engine("image inspect", [image(ONE, Config={"Labels": {"mem_gb": "1"}, "Entrypoint": ENTRYPOINT})])
    with pytest.raises(BuildError, match="not one that tungsten has built"):
        loaded.image("podman", "debian:12")


HISTORY = [
    {"CreatedBy": "the model's files", "size": 10},
    {"CreatedBy": "numpy 2.5.5, an-odd_name 1:2.0~x+b1", "size": 200},
    {"CreatedBy": "a base's ENV", "size": 0},
]


def test_layers_are_told_with_what_they_are_made_of(engine):
    engine("image inspect", [image(ONE)])
    engine("image history", HISTORY)
    packages, files = loaded.image("podman", "blur").layers()
    assert (packages.size, files.size) == (200, 10)
    assert packages.packages == [("numpy", "2.5.5"), ("an-odd_name", "1:2.0~x+b1")]
    assert files.packages == []
    engine("image history", HISTORY[:1])
    assert [layer.size for layer in loaded.image("podman", "blur").layers()] == [0, 0]


def test_words_of_a_layer_are_no_packages():
    made = "the server's environment, click 8.5.1, accounts, name service, time zone"
    assert loaded.Layer("", 0, made).packages == [("click", "8.5.1")]


def test_what_images_share_is_not_free_when_one_goes(engine):
    engine("image history", HISTORY[:2])
    engine("image ls", f"{ONE}\n{TWO}")
    engine("image inspect", [image(ONE), image(TWO, layers=["sha256:a", "sha256:c"])])
    one, two = loaded.images("podman")
    assert loaded.unshared([one], [two]) == 10
    assert loaded.unshared([one], []) == 210
    assert loaded.unshared([one, two], []) == 220
    # The same layer on top of another one is kept for itself.
    engine("image inspect", [image(ONE), image(TWO, layers=["sha256:b", "sha256:a"])])
    assert loaded.unshared(loaded.images("podman")[:1], loaded.images("podman")[1:]) == 210


def test_containers_are_those_with_our_label(engine):
    engine("container ls", f"{ONE}\n{TWO}")
    answers = [
        {
            "Id": identity,
            "Name": "/tungsten-x",
            "State": {"Running": runs},
            "Image": OTHER,
            "Config": {"Labels": {"tungsten.started-by": "a/b/1/2"}},
        }
        for identity, runs in ((ONE, True), (TWO, False))
    ]
    engine("container inspect", answers)
    found = loaded.containers("podman")
    assert [(one.name, one.is_running, one.started_by) for one in found] == [
        ("tungsten-x", True, "a/b/1/2"),
        ("tungsten-x", False, "a/b/1/2"),
    ]
    assert "--filter=label=tungsten.started-by" in engine.told()[0]
    assert loaded.used_images("podman") == {f"sha256:{OTHER}"}
    assert loaded.used_images("podman", without=found) == set()
    engine("container rm", "")
    loaded.remove_container(found[0])
    assert engine.told()[-1] == f"container rm --force --time=0 -- {ONE}"


def test_what_is_no_text_is_no_image(engine, tmp_path):
    """As of an engine that is broken."""
    for words in ("image-ls", "image-inspect"):
        (tmp_path / words).write_bytes(b"\xff\xfe\x1b rubbish")
    assert loaded.images("podman") == []
    with pytest.raises(BuildError, match="has no image"):
        loaded.image("podman", "blur")
