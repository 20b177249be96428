"""`tungsten models`, `tag`, `login`, `logout`: what a person and a program are told."""

import io
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tungstenkit.cli import main as command_line
from tungstenkit.models import built
from tungstenkit.models.built import Built, Inspected, Removal
from tungstenkit.nix_build.loaded import Layer
from tungstenkit.sdk.errors import RunError, TungstenError


@pytest.fixture
def tungsten(monkeypatch, capsys):
    """Runs a command; what it printed."""

    def run(*arguments):
        command_line.command_line(arguments[0])(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    monkeypatch.setattr("tungstenkit.nix_build.engine.find_engine", lambda: "podman")
    return run


HERE = Built(
    "blur",
    "x86_64-linux",
    Path("/"),
    Path("/nix/store"),
    Path("/nix/store/x-layout"),
    f"sha256:{'d' * 64}",
    f"sha256:{'a' * 64}",
    45_600_000,
    datetime(2026, 11, 30, 8, 27, tzinfo=UTC),
    ("localhost/blur:latest",),
    "f" * 64,
)
GONE = Built("old", "aarch64-linux", Path("/no/such/folder"))
LOADED = Built("evil\x1b[31m [b]", "x86_64-linux", image_id=f"sha256:{'b' * 64}", size=10)


def test_a_list_has_a_line_for_each(tungsten, monkeypatch):
    monkeypatch.setattr(built, "built", lambda engine: [HERE, GONE, LOADED])
    lines = tungsten("models").splitlines()
    assert len(lines) == 4
    assert lines[1].split() == [
        *(
            "blur",
            "x86_64-linux",
            "d" * 12,
            "45.6",
            "MB",
            "2026-11-30",
            "08:27",
            "localhost/blur:latest",
            "/",
        ),
        *("(folder", "is", "gone)"),
    ]
    assert "/no/such/folder (folder is gone)" in lines[2]
    assert "evil\\x1b[31m [b]" in lines[3]
    told = json.loads(tungsten("models", "--json"))
    assert told[0] == {
        "name": "blur",
        "platform": "x86_64-linux",
        "folder": "/",
        "folder-is-gone": True,
        "store": "/nix/store",
        "layout": "/nix/store/x-layout",
        "digest": f"sha256:{'d' * 64}",
        "image-id": f"sha256:{'a' * 64}",
        "size": 45_600_000,
        "built": "2026-11-30T08:27:00+00:00",
        "names": ["localhost/blur:latest"],
        "lock-sha256": "f" * 64,
    }
    assert told[2]["folder"] is None
    monkeypatch.setattr(built, "built", lambda engine: [])
    assert tungsten("models") == "no image was built here; `tungsten build DIR` builds one\n"
    assert tungsten("models", "--json") == "[]\n"


def test_an_engine_that_fails_keeps_no_folder_from_being_told(tungsten, monkeypatch, capsys):
    def list_(engine=None):
        if engine is not None:
            raise RunError("the engine is ill")
        return [HERE]

    monkeypatch.setattr(built, "built", list_)
    command_line.command_line("models")(["models"], standalone_mode=False)
    said = capsys.readouterr()
    assert "blur" in said.out
    assert "the engine is ill" in said.err


def test_an_image_is_shown_with_its_layers(tungsten, monkeypatch):
    layers = (
        Layer(f"sha256:{'1' * 64}", 1000, "numpy 2.5.5, six 1.0"),
        Layer("sha256:2", 10, "\x1b[31mthe files"),
    )
    shown = Inspected(HERE, layers, {"device": "cpu"}, False)
    monkeypatch.setattr(built, "inspect", lambda target, engine: [shown])
    said = tungsten("models", "inspect", "blur")
    assert f"digest    sha256:{'d' * 64}" in said
    assert f"sha256:{'f' * 64}, which has changed since the model was exported" in said
    assert "1.0 kB  111111111111  numpy 2.5.5, six 1.0" in said
    assert "\x1b" not in said
    (told,) = json.loads(tungsten("models", "inspect", "blur", "--json"))
    assert told["labels"] == {"device": "cpu"}
    assert told["layers"][0]["packages"] == [
        {"name": "numpy", "version": "2.5.5"},
        {"name": "six", "version": "1.0"},
    ]


def test_what_goes_is_said_and_asked(tungsten, monkeypatch, capsys):
    gone = []
    what = Removal("blur", Path("/m/blur"), (), (), 1_500_000, 46_000_000, ("x: why",))
    monkeypatch.setattr(built, "removal", lambda target, engine: what)
    monkeypatch.setattr(built, "remove", lambda one, engine: gone.append(one))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(RunError, match="no terminal"):
        tungsten("models", "remove", "blur")
    said = capsys.readouterr().out
    assert "/m/blur/.tungsten" in said
    assert "1.5 MB" in said
    assert "holds 46.0 MB for it alone" in said
    assert "left: x: why" in said
    assert gone == []
    assert tungsten("models", "remove", "blur", "blur", "--yes").endswith("removed blur, 1.5 MB\n")
    assert gone == [what]
    monkeypatch.setattr(
        built, "removal", lambda *_: replace(what, target="\x1b[2J[b]", folder=Path(os.fsdecode(b"/m/\xe9")))
    )
    said = tungsten("models", "remove", "any", "--yes")
    assert "removed \\x1b[2J[b], 1.5 MB" in said
    # A terminal's encoding may have nothing for it.
    assert "/m/\\udce9/.tungsten" in said


def test_a_wrong_target_keeps_all_others_from_going(tungsten, monkeypatch):
    def removal(target, engine):
        if target == "wrong":
            raise RunError("no")
        return Removal(target, None, (), (), 0, None)

    gone = []
    monkeypatch.setattr(built, "removal", removal)
    monkeypatch.setattr(built, "remove", lambda one, engine: gone.append(one))
    with pytest.raises(RunError):
        tungsten("models", "remove", "right", "wrong", "--yes")
    assert gone == []


def test_names_are_told_as_the_engine_has_them(tungsten, monkeypatch):
    monkeypatch.setattr(
        built, "tag", lambda source, names, engine: [f"localhost/{name}:latest" for name in names]
    )
    assert tungsten("tag", "blur", "a", "b") == "localhost/a:latest\nlocalhost/b:latest\n"


class TestLogin:
    @pytest.fixture
    def skopeo(self, tmp_path, monkeypatch):
        """Notes what it was told, and what it read."""
        (tmp_path / "skopeo").write_text(
            f'#!/bin/sh\necho "$*" >> {tmp_path}/told\nhead -c 100 >> {tmp_path}/read\n[ "$2" != --fail ]\n'
        )
        (tmp_path / "skopeo").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path

    def test_a_password_is_read_by_skopeo_alone(self, tungsten, skopeo, monkeypatch):
        (skopeo / "password").write_text("hunter2\n")
        given = os.open(skopeo / "password", os.O_RDONLY)
        kept = os.dup(0)
        os.dup2(given, 0)
        try:
            tungsten("login", "registry.example:5000", "-u", "me", "--password-stdin")
        finally:
            os.dup2(kept, 0)
            os.close(given)
            os.close(kept)
        assert (skopeo / "read").read_text() == "hunter2\n"
        assert (
            skopeo / "told"
        ).read_text() == "login --username=me --password-stdin -- registry.example:5000\n"

    @pytest.mark.parametrize("argument", ["--password=x", "-p=x", "-px", "-p"])
    def test_no_option_takes_one(self, tungsten, skopeo, argument):
        with pytest.raises(TungstenError, match="is seen by everyone"):
            tungsten("login", "registry.example", f"--skopeo-arg={argument}")
        assert not (skopeo / "told").exists()
        with pytest.raises(Exception, match="No such option"):
            tungsten("login", "registry.example", "--password=x")

    def test_a_logout_and_more_arguments_are_passed_on(self, tungsten, skopeo):
        tungsten("logout", "[::1]:5000")
        tungsten("login", "localhost:1", "--skopeo-arg=--cert-dir=x", "--user=-x")
        assert (skopeo / "told").read_text().splitlines() == [
            "logout -- [::1]:5000",
            "login --username=-x --tls-verify=false --cert-dir=x -- localhost:1",
        ]

    @pytest.mark.parametrize(
        "registry", ["--all", "-h", "", "a b", "https://x", "x/y", "x:", "x:y", "me:pw@x", "x\n"]
    )
    def test_what_is_no_registry_is_refused(self, tungsten, skopeo, registry):
        with pytest.raises(TungstenError, match="is no registry"):
            tungsten("logout", "--", registry)
        assert not (skopeo / "told").exists()

    def test_what_fails_is_an_error(self, tungsten, skopeo):
        with pytest.raises(TungstenError, match=r"did not log in to x\.y"):
            tungsten("login", "x.y", "--skopeo-arg=--fail")
        with pytest.raises(TungstenError, match="whose password"):
            tungsten("login", "x.y", "--password-stdin")

    def test_without_skopeo_it_is_told_how(self, tungsten, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(TungstenError, match="no skopeo") as caught:
            tungsten("login", "x.y")
        assert "podman login" in caught.value.hint
