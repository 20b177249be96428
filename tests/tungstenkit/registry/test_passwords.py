"""Who a user is at a registry: what skopeo, podman and docker keep is found as they find it."""

import base64
import json
import os

import pytest

from tungstenkit.registry import passwords
from tungstenkit.registry.client import Access, Name
from tungstenkit.registry.passwords import Password, may_be_plain, password_for
from tungstenkit.sdk.errors import FetchError


def packed(user, secret):
    return {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}


@pytest.fixture
def environ(tmp_path):
    return {
        "HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PATH": os.environ["PATH"],
    }


@pytest.fixture
def keep(tmp_path):
    def keep(place, document):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return keep


RUN = "run/containers/auth.json"
CONFIG = "home/.config/containers/auth.json"
DOCKER = "home/.docker/config.json"


def test_nobody_is_known_where_nothing_is_kept(environ):
    assert password_for("host:5000", "team/blur", environ) is None


@pytest.mark.parametrize("place", [RUN, CONFIG, DOCKER])
def test_each_client_s_file_is_read(environ, keep, place):
    keep(place, {"auths": {"host:5000": packed("me", "a:b")}})
    assert password_for("host:5000", "team/blur", environ) == Password("me", "a:b")
    assert password_for("other:5000", "team/blur", environ) is None


def test_the_first_that_knows_the_registry_counts(environ, keep):
    keep(DOCKER, {"auths": {"a": packed("docker", "1"), "b": packed("docker", "1")}})
    keep(RUN, {"auths": {"a": packed("run", "2"), "b": {}}})
    assert password_for("a", "x", environ) == Password("run", "2")
    assert password_for("b", "x", environ) == Password("docker", "1")


def test_the_nearest_name_counts(environ, keep):
    named = {"h/team/blur": packed("blur", "1"), "h/team": packed("team", "2"), "h": packed("all", "3")}
    keep(RUN, {"auths": named})
    users = [
        password_for("h", name, environ).user for name in ("team/blur", "team/other", "teams", "x/team/blur")
    ]
    assert users == ["blur", "team", "all", "all"]


def test_one_that_is_named_counts_alone(environ, keep):
    keep(RUN, {"auths": {"h": packed("run", "1")}})
    other = keep("other.json", {"auths": {"h": packed("other", "2")}})
    assert password_for("h", "x", environ | {"REGISTRY_AUTH_FILE": str(other)}).user == "other"
    assert password_for("h", "x", environ, str(other)).user == "other"


def test_docker_hub_has_other_names_in_dockers_file(environ, keep):
    keep(DOCKER, {"auths": {"https://index.docker.io/v1/": packed("me", "1")}})
    name = Name.of("debian:12")
    assert (name.registry, name.repository, name.reference) == ("docker.io", "library/debian", "12")
    assert password_for(name.registry, name.repository, environ).user == "me"


def test_a_token_stands_for_a_password(environ, keep):
    keep(RUN, {"auths": {"h": {"auth": "", "identitytoken": "t"}}})
    assert password_for("h", "x", environ) == Password("", "t", is_token=True)


@pytest.mark.parametrize("said", [{"credHelpers": {"h": "tests"}}, {"credsStore": "tests"}])
@pytest.mark.parametrize(("user", "is_token"), [("me", False), ("<token>", True)])
def test_a_helper_is_asked(environ, keep, monkeypatch, tmp_path, said, user, is_token):
    answer = json.dumps({"ServerURL": "h", "Username": user, "Secret": "s"})
    script = f"#!/bin/sh\n[ $1 = get ] && [ $(cat) = h ] && echo '{answer}'\n"
    keep("bin/docker-credential-tests", script).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    keep(RUN, said)
    assert password_for("h", "x", environ) == Password("" if is_token else "me", "s", is_token=is_token)


def test_a_helper_that_knows_nothing_is_no_error_and_one_that_is_not_there_is(
    environ, keep, monkeypatch, tmp_path
):
    keep(RUN, {"credHelpers": {"h": "tests"}})
    with pytest.raises(FetchError, match="docker-credential-tests is to know the password"):
        password_for("h", "x", environ)
    keep("bin/docker-credential-tests", "#!/bin/sh\nexit 1\n").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert password_for("h", "x", environ) is None


@pytest.mark.parametrize(
    "said", ["", "{}", "[]", "null", '{"Username": "me"}', "<html>", "[" * 2000, "\\377"]
)
def test_what_a_helper_says_without_sense_is_told(environ, keep, monkeypatch, tmp_path, said):
    keep("bin/docker-credential-tests", f"#!/bin/sh\nprintf '{said}'\n").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    keep(RUN, {"credHelpers": {"h": "tests"}})
    with pytest.raises(FetchError, match="passwords for registries can't be read"):
        password_for("h", "x", environ)


def test_a_helper_that_hangs_is_given_up(environ, keep, monkeypatch, tmp_path):
    """And what it has started, which holds its output."""
    keep("bin/docker-credential-tests", "#!/bin/sh\nsleep 9 & sleep 9\n").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(passwords, "_HELPERS_PATIENCE", 0.2)
    keep(RUN, {"credHelpers": {"h": "tests"}})
    with pytest.raises(FetchError, match="does not answer"):
        password_for("h", "x", environ)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "null",
        '{"auths": 1}',
        '{"auths": {"h": {"auth": "%"}}}',
        '{"auths": {"h": {"auth": "eA=="}}}',
        '{"auths": {"h": 1}}',
        '{"credsStore": "../x"}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_told_and_named(environ, keep, document):
    path = keep(RUN, document)
    with pytest.raises(FetchError, match="can't be read") as caught:
        password_for("h", "x", environ)
    assert caught.value.where == str(path)


def test_no_password_is_in_a_repr():
    assert "secret" not in repr(Access(password=Password("me", "secret")))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Access()),
        (["--dest-tls-verify=false"], Access(plain=True)),
        (["--dest-creds=me:a:b"], Access(password=Password("me", "a:b"))),
        (["--dest-creds", "me:x", "--authfile", "f"], Access(password=Password("me", "x"), file="f")),
        (["--dest-username", "me", "--dest-password=x"], Access(password=Password("me", "x"))),
        (["--dest-tls-verify", "--format=oci"], Access()),
    ],
)
def test_what_skopeo_is_told_of_a_registry_counts_here_too(arguments, expected):
    assert Access.of_skopeo(arguments) == expected


def test_which_registries_may_be_plain_is_in_their_settings(environ, keep):
    keep("home/.config/containers/registries.conf", '[[registry]]\nlocation = "h:5000"\ninsecure = true\n')
    keep("home/.config/containers/registries.conf.d/x.conf", '[[registry]]\nprefix = "i"\ninsecure = true\n')
    assert may_be_plain("h:5000", environ)
    assert may_be_plain("i", environ)
    assert not may_be_plain("h", environ)
    named = keep("other.conf", '[[registry]]\nlocation = "j"\ninsecure = true\n')
    other = environ | {"CONTAINERS_REGISTRIES_CONF": str(named)}
    assert may_be_plain("j", other)
    assert not may_be_plain("h:5000", other)
    keep("other.conf", "no toml")
    assert not may_be_plain("j", other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h:5000/a/b:1", ("h:5000", "a/b", "1")),
        ("docker://h.example/a", ("h.example", "a", None)),
        (f"localhost/a:1@sha256:{'0' * 64}", ("localhost", "a", f"sha256:{'0' * 64}")),
        ("[::1]:5000/a", ("[::1]:5000", "a", None)),
        ("team/a", ("docker.io", "team/a", None)),
    ],
)
def test_a_reference_has_parts(text, expected):
    name = Name.of(text)
    assert (name.registry, name.repository, name.reference) == expected


@pytest.mark.parametrize("text", ["", "A", "h/../x", "h:5000/a:", "h:5000/a@sha256:0", "-x", "a b", "h/a?b"])
def test_what_is_no_reference_is_told(text):
    with pytest.raises(FetchError, match="is no reference"):
        Name.of(text)
