"""What of ours an export is made of, and by what digests a lock knows it."""

import shutil

import pytest

from tungstenkit import data

FOLDERS = {"nix": "NIX", "sdk": "SDK", "server": "SERVER"}
"""The folders of what a lock knows, by their names there."""


def copy_ours(target, monkeypatch):
    """Have the folders in another place, with all that a machine does to files and that git does not keep."""
    for name in FOLDERS.values():
        shutil.copytree(getattr(data, name), target / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [*(target / name).rglob("*.py")]:
            path.chmod(0o777)
            (path.parent / "__pycache__").mkdir(exist_ok=True)
            (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").write_bytes(b"\0")
        monkeypatch.setattr(data, name, target / name)


def test_a_digest_is_of_names_and_content_alone(tmp_path, monkeypatch):
    files, digests = data.exported_files(), data.digests()
    copy_ours(tmp_path, monkeypatch)
    assert (data.exported_files(), data.digests()) == (files, digests)
    assert digests.keys() == FOLDERS.keys()
    assert len(set(digests.values())) == len(FOLDERS)


@pytest.mark.parametrize("part", FOLDERS)
@pytest.mark.parametrize(
    "change",
    [lambda file: file.write_text(f"{file.read_text()}\n"), lambda file: file.rename(file.with_name("x.py"))],
    ids=["content", "name"],
)
def test_a_digest_moves_with_its_own_part_alone(tmp_path, monkeypatch, part, change):
    before = data.digests()
    copy_ours(tmp_path, monkeypatch)
    folder = tmp_path / FOLDERS[part]
    change(next(path for path in sorted((folder / "sdk" if part == "sdk" else folder).rglob("*.py"))))
    now = data.digests()
    assert [name for name, digest in now.items() if digest != before[name]] == [part]
