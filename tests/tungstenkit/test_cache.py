"""The user's cache: an entry is whole, or it is not there."""

import os
import threading

import pytest

from tungstenkit.cache import cache_folder, keep, kept, replacing
from tungstenkit.sdk.errors import FetchError


@pytest.mark.parametrize(
    ("value", "expected"), [("/caches", "/caches/tungsten"), ("", None), ("relative", None)]
)
def test_the_cache_lies_where_the_xdg_specification_says(monkeypatch, tmp_path, value, expected):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert os.fspath(cache_folder()) == (expected or os.fspath(tmp_path / ".cache" / "tungsten"))


def writes(text):
    return lambda path: path.write_text(text)


def test_what_is_kept_is_found_under_its_key_alone(tmp_path):
    assert kept(tmp_path / "x", "a.1") is None
    path = keep(tmp_path / "x", "a.1", writes("text"))
    assert kept(tmp_path / "x", "a.1") == path
    assert path.read_text() == "text"
    assert kept(tmp_path / "x", "a") is None
    assert kept(tmp_path / "x", "a.11") is None


@pytest.mark.parametrize("damage", [b"", b"tex", b"text and more"])
def test_a_damaged_entry_is_dropped_and_can_be_made_again(tmp_path, damage):
    keep(tmp_path, "a", writes("text")).write_bytes(damage)
    assert kept(tmp_path, "a") is None
    assert list((tmp_path / "a").iterdir()) == []
    assert keep(tmp_path, "a", writes("text")) == kept(tmp_path, "a")


def test_one_that_fails_leaves_nothing(tmp_path):
    def fail(path):
        path.write_text("half")
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        keep(tmp_path, "a", fail)
    with pytest.raises(ValueError, match="on purpose"), replacing(tmp_path / "b") as path:
        fail(path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_two_that_keep_the_same_do_not_disturb_each_other(tmp_path):
    both = threading.Barrier(2)

    def write(path):
        path.write_text("text")
        both.wait(timeout=30)

    threads = [threading.Thread(target=keep, args=(tmp_path, "a", write)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(tmp_path, "a").read_text() == "text"
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_a_folder_that_cant_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="can't be kept") as caught:
        keep(tmp_path / "file" / "x", "a", writes("text"))
    assert "XDG_CACHE_HOME" in caught.value.hint
