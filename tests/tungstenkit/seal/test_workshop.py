"""Where sealing has its files from."""

import hashlib
from types import SimpleNamespace

import pytest

from tests.registry import registry
from tests.tungstenkit.observers import Told
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.registry import client
from tungstenkit.registry.artifact import Layer
from tungstenkit.registry.place import place
from tungstenkit.sdk.errors import FetchError, GoneError
from tungstenkit.seal import workshop
from tungstenkit.seal.workshop import Workshop
from tungstenkit.watch import UNWATCHED

CONTENT = b"a wheel that no index has any more"
FILE = LockedFile("a-1-py3-none-any.whl", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), project="a")


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def shop(monkeypatch, tmp_path, told):
    """One whose mirrors have nothing."""
    monkeypatch.setattr(client, "_pause", lambda _: None)
    monkeypatch.setattr(workshop, "find_in_store", lambda _: None)
    monkeypatch.setattr(workshop, "locate", lambda wanted, *_: {one.sha256: [] for one in wanted})
    solver = SimpleNamespace(mirrors=None, directory=tmp_path)
    return Workshop(None, tmp_path, None, None, {}, solver, told, UNWATCHED)


def test_a_file_that_has_left_its_index_is_taken_from_a_registry(shop, monkeypatch):
    with registry() as there:
        place(f"{there.host}/kept").put_blob(Layer(CONTENT))
        monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", f"{there.host}/kept")
        assert shop.get(FILE).read_bytes() == CONTENT
        assert shop.get(FILE).name == FILE.name


def test_what_a_registry_has_not_is_asked_of_the_others(shop, monkeypatch, told):
    with registry() as there:
        monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", f"{there.host}/kept")
        with pytest.raises(GoneError):
            shop.get(FILE)
    assert told.warnings == []


def test_a_registry_that_does_not_answer_is_told_once_and_what_it_may_have_is_not_gone(
    shop, monkeypatch, told
):
    monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", "127.0.0.1:9/kept")
    for _ in range(2):
        with pytest.raises(FetchError, match="a registry that may have it can't be asked") as caught:
            shop.get(FILE)
        assert not isinstance(caught.value, GoneError)
        assert "127.0.0.1:9/kept: " in caught.value.where
    (warning,) = told.warnings
    assert warning.startswith("127.0.0.1:9/kept can't be used as a mirror: ")


def test_a_file_that_is_damaged_in_a_registry_says_nothing_of_its_others(shop, monkeypatch, told):
    other = b"another wheel"
    with registry() as there:
        kept = place(f"{there.host}/kept")
        for content in (CONTENT, other):
            kept.put_blob(Layer(content))
        there.damaged.add(f"sha256:{FILE.sha256}")
        monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", f"{there.host}/kept")
        with pytest.raises(GoneError):
            shop.get(FILE)
        file = LockedFile("b-1-py3-none-any.whl", len(other), hashlib.sha256(other).hexdigest(), project="b")
        assert shop.get(file).read_bytes() == other
    assert told.warnings == [f"{there.host}/kept: this is not {FILE.name} as the lock has it"]
