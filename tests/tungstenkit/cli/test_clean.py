"""`tungsten clean`: what it removes, and that it asks before."""

import io
import re

import pytest

from tungstenkit.cli import main as command_line
from tungstenkit.models import garbage
from tungstenkit.models.garbage import Found
from tungstenkit.sdk.errors import RunError


@pytest.fixture
def clean(monkeypatch):
    """Runs the command; its exit status."""

    def run(*arguments, answer=None):
        class Terminal(io.StringIO):
            def isatty(self):
                return answer is not None

        monkeypatch.setattr("sys.stdin", Terminal(answer or ""))
        with pytest.raises(SystemExit) as ended:
            command_line.command_line("clean")(["clean", *arguments], prog_name="tungsten")
        return ended.value.code or 0

    monkeypatch.setattr("tungstenkit.nix_build.engine.find_engine", lambda: "podman")
    return run


def test_tungsten_s_own_nix_is_removed(tmp_path, monkeypatch, capsys, clean):
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path))
    (tmp_path / "nix" / "store").mkdir(parents=True)
    (tmp_path / "nix" / "store" / "file").write_text("x" * 100_000)
    (tmp_path / "other").touch()
    assert clean("--nix", "--yes") == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/nix" in said
    assert re.fullmatch(
        r"removed tungsten's own Nix, and your own Nix store, 1\d\d\.\d kB", said.splitlines()[-1]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert clean("--nix", "--yes") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is to be removed"


@pytest.fixture
def found(monkeypatch):
    """What there is of each kind; the kinds that have gone."""
    gone, there = [], {}

    def find(kinds, engine):
        assert engine == "podman"
        return [
            there.get(kind)
            or Found(kind, (f"a thing of {kind}",), 1000, remove=lambda k=kind: gone.append(k) or 900)
            for kind in garbage.KINDS
            if kind in kinds
        ]

    monkeypatch.setattr(garbage, "find", find)
    find.gone, find.there = gone, there
    return find


def test_what_is_still_of_use_goes_only_where_it_is_named(clean, found, capsys):
    assert clean(answer="y\n") == 0
    assert found.gone == ["scratch", "folders", "containers", "images", "own-store"]
    said = capsys.readouterr()
    assert "a thing of store" in said.out
    assert "--store, which is not given" in said.out
    assert "--cache, which is not given" in said.out
    assert "removed containers whose command was killed, 900 bytes" in said.out
    assert "remove scratch, folders, containers, images, own-store: 5.0 kB?" in said.err


def test_a_kind_that_is_named_goes_alone(clean, found, capsys):
    assert clean("--store", "--images", "--yes") == 0
    assert found.gone == ["images", "store"]
    assert "a thing of cache" not in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "answer", "status"), [([], "n\n", 1), (["--dry-run"], None, 0)])
def test_nothing_goes_where_nobody_wants_it(clean, found, arguments, answer, status):
    assert clean(*arguments, answer=answer) == status
    assert found.gone == []


def test_without_a_terminal_nobody_is_asked(clean, found):
    with pytest.raises(RunError, match="no terminal to ask") as caught:
        command_line.command_line("clean")(["clean"], standalone_mode=False)
    assert "--yes" in caught.value.hint
    assert found.gone == []


def test_what_fails_keeps_nothing_else_from_going(clean, found, capsys):
    def fail():
        raise RunError("it can't go", where="folders")

    found.there["folders"] = Found("folders", ("x",), 1, remove=fail)
    found.there["images"] = Found("images", problem=RunError("the engine is ill"))
    with pytest.raises(RunError, match="it can't go"):
        command_line.command_line("clean")(["clean", "--yes"], standalone_mode=False)
    assert found.gone == ["scratch", "containers", "own-store"]
    assert "the engine is ill" in capsys.readouterr().err


def test_what_is_only_told_may_be_unknown(clean, found, capsys):
    found.there["store"] = Found("store", problem=RunError("there is no Nix", where="/nix/store"))
    assert clean("--dry-run") == 0
    said = capsys.readouterr()
    assert re.search(r"\? +what no root holds in the machine's Nix store +--store", said.out)
    assert "not known: /nix/store: there is no Nix" in said.out
    assert "there is no Nix" not in said.err
    with pytest.raises(RunError, match="there is no Nix"):
        command_line.command_line("clean")(["clean", "--store", "--dry-run"], standalone_mode=False)


def test_names_are_text_whoever_has_given_them(clean, found, capsys):
    found.there["images"] = Found(
        "images", ("\x1b[31mred [bold]x[/] \u202eleft\nnext",), 1, ("\x1b[31mleft",), remove=lambda: 0
    )
    clean("--images", "--dry-run")
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\\x1b[31mred [bold]x[/] \\u202eleft\\nnext" in said
