"""What files take of a disk, and their going."""

import os

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
