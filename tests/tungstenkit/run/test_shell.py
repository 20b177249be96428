"""When a development shell is built again, and what is said where it can't run."""

from types import SimpleNamespace

import pytest

from tungstenkit.run import shell
from tungstenkit.sdk.errors import RunError


def a(text, **attributes):
    return SimpleNamespace(to_json=lambda: text, **attributes)


def stamp(spec="spec", lock="lock", commands=()):
    return shell.stamp(a(spec, dockerfile_commands=commands), a(lock))


@pytest.fixture
def link(tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "shell"
    link.symlink_to(tmp_path / "folder")
    return link


def test_it_is_built_again_when_the_spec_or_the_lock_is_another():
    assert stamp() == stamp()
    assert len({stamp(), stamp(spec="x"), stamp(lock="x")}) == 3


def test_one_whose_root_has_files_of_the_models_is_always_asked_for(link):
    assert stamp(commands=["COPY data /data"]) is None
    shell.note_stamp(link, None)
    assert not shell.is_current(link, None)


def test_one_that_fits_is_taken_as_it_is(link):
    assert not shell.is_current(link, stamp())
    shell.note_stamp(link, stamp())
    assert shell.is_current(link, stamp())
    assert not shell.is_current(link, stamp(lock="x"))


def test_one_that_was_collected_is_built_again(link):
    shell.note_stamp(link, stamp())
    (link.parent / "folder").rmdir()
    assert not shell.is_current(link, stamp())


def test_a_machine_that_does_not_allow_it_is_told_the_remedy(monkeypatch):
    script = """print('{"what": "forbidden", "hint": "allow it"}'); raise SystemExit(126)"""
    monkeypatch.setattr(shell, "_CHECK", script)
    with pytest.raises(RunError) as caught:
        shell.check_machine()
    assert (caught.value.what, caught.value.hint) == ("forbidden", "allow it")
