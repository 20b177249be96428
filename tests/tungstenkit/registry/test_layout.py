"""A layout, whoever made it and whoever else writes it: nothing in it is waited for, lost or left half-written."""

import json
import os
import shutil
import threading
from contextlib import suppress

import pytest

from tests.registry import digest_of
from tungstenkit.fetch import carry
from tungstenkit.fetch.inputs import Contents
from tungstenkit.registry.artifact import INPUTS, Artifact, Layer, manifest
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.sdk.errors import FetchError
from tungstenkit.watch import UNWATCHED

pytestmark = pytest.mark.timeless("what is kept has no date")
CONTENT = b"content" * 1000


def both(do):
    """Do something twice at once; what came of each."""
    found = []

    def one(number):
        try:
            found.append(do(number))
        except BaseException as problem:
            found.append(problem)

    threads = [threading.Thread(target=one, args=[number]) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture
def together(monkeypatch):
    """Has two threads be at one place at once, as far as they let each other."""

    def hold(owner, name, seconds):
        barrier, original = threading.Barrier(2), getattr(owner, name)

        def held(*arguments):
            found = original(*arguments)
            with suppress(threading.BrokenBarrierError):
                barrier.wait(seconds)
            return found

        monkeypatch.setattr(owner, name, held)

    return hold


def test_two_that_write_one_blob_both_have_it(tmp_path, together):
    (tmp_path / "file").write_bytes(CONTENT)
    together(shutil, "copyfile", 30)
    found = both(lambda _: LayoutPlace(tmp_path / "layout").put_blob(Layer(tmp_path / "file")))
    assert found == [None, None]
    (blob,) = (tmp_path / "layout" / "blobs" / "sha256").iterdir()
    assert blob.read_bytes() == CONTENT


def test_of_two_manifests_that_come_at_once_none_is_lost(tmp_path, together):
    together(LayoutPlace, "_listed", 0.3)
    contents = {number: manifest(Artifact(INPUTS, [Layer(b"%d" % number)])) for number in (1, 2)}
    both(lambda number: LayoutPlace(tmp_path / "layout").put_manifest(contents[number], tag=f"tag-{number}"))
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert {one["digest"] for one in index["manifests"]} == set(map(digest_of, contents.values()))


def test_of_two_folders_of_files_that_are_packed_into_one_none_is_lost(tmp_path, together):
    together(LayoutPlace, "_listed", 0.3)
    names = {1: "one", 2: "two"}
    both(
        lambda number: carry.pack(
            Contents([], [program(tmp_path, names[number])]), tmp_path / "carried", UNWATCHED
        )
    )
    script = (tmp_path / "carried" / carry.TAKE).read_text()
    assert all(f" {name} program\n" in script for name in names.values())


def program(folder, name):
    """A folder with one program, as the store has it."""
    path = folder / f"of-{name}" / "bin" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(name.encode())
    return str(path.parents[1])


def test_what_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def copyfile(_source, path):
        path.write_bytes(CONTENT[:100])
        raise KeyboardInterrupt

    (tmp_path / "file").write_bytes(CONTENT)
    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(KeyboardInterrupt):
        LayoutPlace(tmp_path / "layout").put_blob(Layer(tmp_path / "file"))
    assert [path for path in (tmp_path / "layout").rglob("*") if path.is_file()] == []


def test_a_document_that_is_written_while_it_is_read_is_refused(tmp_path, monkeypatch):
    layout = LayoutPlace(tmp_path / "layout")
    layout.put_blob(Layer(CONTENT))
    digest, original = digest_of(CONTENT), LayoutPlace.blob

    def blob(self, digest, size, to):
        original(self, digest, size, to)
        # As where it is a further name of the layout's own file.
        to.write_bytes(b"others" * 1000)

    monkeypatch.setattr(LayoutPlace, "blob", blob)
    with pytest.raises(FetchError, match="not what its digest says"):
        layout.document(digest, len(CONTENT))


def test_what_stands_there_many_times_is_read_once(tmp_path, monkeypatch):
    layout = LayoutPlace(tmp_path / "layout")
    one = layout.attach(Artifact(INPUTS, [Layer(CONTENT)]))
    layout.say([one] * 1000)
    asked, original = [], LayoutPlace.manifest
    monkeypatch.setattr(
        LayoutPlace, "manifest", lambda self, digest: asked.append(digest) or original(self, digest)
    )
    assert layout.referrers(digest_of(b"")) == []
    assert asked == [one.digest]


def fifo(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def shadow(path):
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("make", [fifo, endless, shadow])
def test_what_never_ends_or_is_another_s_is_no_part_of_it(tmp_path, make):
    layout = LayoutPlace(tmp_path / "layout")
    layout.put_blob(Layer(CONTENT))
    digest = digest_of(CONTENT)
    layout.path(digest).unlink()
    make(layout.path(digest))
    assert not layout.has_blob(digest)
    with pytest.raises(FetchError, match="does not have this"):
        layout.blob(digest, len(CONTENT), tmp_path / "back")
    with pytest.raises(FetchError, match="does not have this"):
        layout.manifest(digest)
    make(tmp_path / "layout" / "index.json")
    for ask in (layout.resolve, lambda: layout.referrers(digest)):
        with pytest.raises(FetchError, match="this is no manifest") as caught:
            ask()
        assert "root:" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["layout"]
