"""References of images, and what is said where skopeo can't read one."""

import pytest

from tungstenkit.registry import skopeo as registry
from tungstenkit.sdk.errors import FetchError

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("debian", f"debian@{DIGEST}"),
        ("debian:12", f"debian@{DIGEST}"),
        ("host:5000/a/b", f"host:5000/a/b@{DIGEST}"),
        ("host:5000/a/b:1", f"host:5000/a/b@{DIGEST}"),
        (f"host/a:1@sha256:{'b' * 64}", f"host/a@{DIGEST}"),
    ],
)
def test_a_digest_takes_the_place_of_a_tag(reference, expected):
    assert registry.with_digest(reference, DIGEST) == expected


def test_a_tag_beside_a_digest_says_nothing():
    assert registry.without_tag(f"a:1@{DIGEST}") == f"a@{DIGEST}"
    assert registry.without_tag("a:1") == "a:1"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("127.0.0.1:5000/a", True),
        ("127.8.9.1/a", True),
        ("localhost:5000/a", True),
        ("[::1]:5000/a", True),
        ("localhost", False),  # an image of that name
        ("10.0.0.1:5000/a", False),
        ("localhost.example/a", False),
        ("example.org/localhost", False),
    ],
)
def test_plain_http_is_for_this_machine_alone(reference, expected):
    assert registry.is_here(reference) is expected


def test_without_skopeo_its_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="skopeo"):
        registry.manifest("debian:12")


@pytest.fixture
def skopeo(monkeypatch, tmp_path):
    """A program in skopeo's place."""

    def put(script):
        program = tmp_path / "skopeo"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("unauthorized: authentication required", "`tungsten login example.org` gives"),
        ("manifest unknown", "look at the name"),
        ("dial tcp: i/o timeout", "check the network"),
        ("write: no space left on device", "make room"),
        (
            "open /run/containers/7/auth.json: permission denied",
            "`export REGISTRY_AUTH_FILE=$HOME/.config/containers/auth.json`",
        ),
    ],
)
def test_what_skopeo_says_comes_with_what_to_do(skopeo, said, hint):
    skopeo(f"echo '{said}' >&2; exit 1")
    with pytest.raises(FetchError, match=said) as problem:
        registry.manifest("example.org/a:1")
    assert hint in str(problem.value)
    assert "example.org/a:1" in str(problem.value)


def test_another_manifest_than_the_digest_says_is_refused(skopeo):
    skopeo("printf '{}'")
    found, _ = registry.manifest("example.org/a:1")
    assert registry.manifest(f"example.org/a@{found}") == (found, {})
    with pytest.raises(FetchError, match="another manifest"):
        registry.manifest(f"example.org/a@{DIGEST}")


INSPECTED = """if [ $1 = inspect ]; then printf '{"layers": [{"size": 1000}]}'; exit; fi\n"""


def test_a_blob_without_end_fills_no_disk(skopeo, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_AROUND", 10_000)
    skopeo(
        f'{INSPECTED}for to; do :; done; while :; do head -c 5000 /dev/zero; sleep 0.01; done >> "${{to#dir:}}/b"'
    )
    with pytest.raises(FetchError, match="more than the manifest says"):
        registry.pull("a", {"0" * 64: tmp_path / "blob"}, tmp_path, lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["skopeo"]


def test_a_manifest_that_is_too_deep_is_none(skopeo):
    skopeo("""head -c 100000 /dev/zero | tr '\\0' '['""")
    with pytest.raises(FetchError, match="no manifest"):
        registry.manifest("example.org/a:1")


def test_other_bytes_than_the_digest_says_are_no_layer(skopeo, tmp_path):
    sha256 = "0" * 64
    skopeo(f'{INSPECTED}for to; do :; done; echo wrong > "${{to#dir:}}/{sha256}"')
    arrived = []
    with pytest.raises(FetchError, match="other bytes"):
        registry.pull("a", {sha256: tmp_path / "blob"}, tmp_path, arrived.append)
    assert sum(arrived) == len("wrong\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["skopeo"]
