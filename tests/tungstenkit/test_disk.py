"""What files take of a disk, and their going."""

import os
from pathlib import Path

import pytest

from tungstenkit import disk


def test_a_file_counts_once_and_only_where_its_last_name_goes(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "file").write_bytes(b"x" * 100_000)
    folder = disk.used([tmp_path / "two"])
    alone = disk.used([tmp_path / "one"])
    assert alone >= 100_000 + folder
    os.link(tmp_path / "one" / "file", tmp_path / "one" / "again")
    assert disk.used([tmp_path / "one"]) == alone
    os.link(tmp_path / "one" / "file", tmp_path / "two" / "elsewhere")
    assert disk.used([tmp_path / "one"]) == folder
    assert disk.used([tmp_path / "one", tmp_path / "two"]) == alone + folder
    inode = (tmp_path / "one" / "file").stat().st_ino
    assert disk.used([tmp_path / "one"], besides={inode}) == alone


def test_what_goes_is_what_was_counted_and_nothing_behind_a_link(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"x" * 100_000)
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_bytes(b"x" * 50_000)
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "inner" / "link").symlink_to(tmp_path / "outside" / "file")
    # As in a Nix store.
    (folder / "inner").chmod(0o555)
    counted = disk.used([folder])
    assert 50_000 < counted < 100_000
    assert disk.erase(folder) == counted
    assert not folder.exists()
    assert (tmp_path / "outside" / "file").stat().st_size == 100_000
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    disk.erase(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert disk.used([tmp_path / "nothing"]) == 0


def test_nothing_goes_where_something_is_mounted(tmp_path, monkeypatch):
    """What is in it is elsewhere, too: a volume, or any folder by another name."""
    state = tmp_path / "a model" / ".tungsten"
    (state / "cache").mkdir(parents=True)
    (state / "cache" / "precious").touch()
    mounts = tmp_path / "mountinfo"
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(mounts if path == Path("/proc/self/mountinfo") else path)
    )
    line = "36 35 98:0 /home {} rw - ext3 /dev/root rw\n"
    for place in (state / "cache", state):
        mounts.write_text(line.format("/") + line.format(str(place).replace(" ", "\\040")))
        with pytest.raises(OSError, match="mounted there") as caught:
            disk.erase(state)
        assert caught.value.filename == str(place)
        assert (state / "cache" / "precious").exists()
    mounts.write_text(line.format("/") + line.format(f"{state}-of-another".replace(" ", "\\040")))
    assert disk.erase(state) > 0


def test_what_is_too_deep_is_told_as_that(tmp_path, monkeypatch):
    def rmtree(_):
        raise RecursionError

    monkeypatch.setattr("shutil.rmtree", rmtree)
    with pytest.raises(OSError, match="nested too deeply") as caught:
        disk.erase(tmp_path)
    assert caught.value.filename == str(tmp_path)
