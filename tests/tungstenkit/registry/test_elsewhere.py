"""Where a registry may have a blob already is remembered, as a guess."""

import pytest

from tungstenkit.registry import elsewhere
from tungstenkit.registry.place import place


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_another_repository_of_the_same_registry_is_known():
    one, two = place("host:5000/one"), place("host:5000/two")
    assert elsewhere.repositories(two) == {}
    elsewhere.note(one, ["sha256:a", "sha256:b"])
    assert elsewhere.repositories(two) == {"sha256:a": ("one",), "sha256:b": ("one",)}
    elsewhere.note(two, ["sha256:b"])
    assert elsewhere.repositories(two) == {"sha256:a": ("one",)}
    assert elsewhere.repositories(one) == {"sha256:b": ("two",)}
    assert elsewhere.repositories(place("other:5000/two")) == {}


def test_a_folder_has_no_others(tmp_path):
    (tmp_path / "folder").mkdir()
    folder = place(str(tmp_path / "folder"))
    elsewhere.note(folder, ["sha256:a"])
    assert elsewhere.repositories(folder) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(elsewhere, "_MOST", 2)
    elsewhere.note(place("host:5000/one"), ["1", "2"])
    elsewhere.note(place("host:5000/one"), ["1", "3"])
    assert set(elsewhere.repositories(place("host:5000/two"))) == {"1", "3"}


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "[" * 100_000])
def test_a_damaged_note_is_none(text):
    one = place("host:5000/one")
    elsewhere.note(one, ["1"])
    elsewhere._path(one.repository).write_text(text)
    assert elsewhere.repositories(place("host:5000/two")) == {}
