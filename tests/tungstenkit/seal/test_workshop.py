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
from tungstenkit.sdk.errors import GoneError
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


def test_a_registry_that_does_not_answer_is_told_once(shop, monkeypatch, told):
    monkeypatch.setenv("TUNGSTEN_MIRROR_OCI", "127.0.0.1:9/kept")
    for _ in range(2):
        with pytest.raises(GoneError):
            shop.get(FILE)
    (warning,) = told.warnings
    assert warning.startswith("127.0.0.1:9/kept can't be used as a mirror: ")
