"""An export: complete, the same bytes each time, and never in the place of something else."""

import errno
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.binaries import unpack
from tungstenkit.export import flake
from tungstenkit.export.flake import Contents, digest, export, git_notice, public
from tungstenkit.export.packed import pack_export
from tungstenkit.lock.document import LOCK_NAME, read_lock
from tungstenkit.sdk.errors import ExportError
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.files import select_files

EXAMPLE = Path(__file__).resolve().parent.parent.parent.parent / "examples" / "caption"


@pytest.fixture
def pack(tmp_path):
    """Packs the export of a copy of the example, with one file more; the tars' contents."""

    def pack(name, content="", mode=0o644):
        model = tmp_path / name / "model"
        model.mkdir(parents=True)
        (model / "tungsten_model.py").write_bytes((EXAMPLE / "tungsten_model.py").read_bytes())
        (model / "more.py").write_text(content)
        (model / "more.py").chmod(mode)
        (model / "link.py").symlink_to("more.py")
        spec = ModelSpec.from_json((EXAMPLE / "spec.json").read_text())
        files = select_files(model, spec.include_files, spec.exclude_files, spec.module)
        lock = read_lock(EXAMPLE / "tungsten.lock")
        paths = flake.pack(spec, lock, Contents(model, files), tmp_path / name)
        export(spec, lock, Contents(model, files), {}, tmp_path / name / "out")
        return {part: path.read_bytes() for part, path in paths.items()}

    return pack


def test_an_export_is_packed_to_the_same_bytes_each_time(pack):
    assert pack("one") == pack("two")


def test_an_edited_line_changes_the_models_part_alone(pack):
    one, two, three = pack("one", "a"), pack("two", "b"), pack("three", "a", 0o755)
    for other in (two, three):
        assert [part for part in one if one[part] != other[part]] == ["model"]
    assert len(one["model"]) < 20_000


def test_what_is_packed_is_the_export(pack, tmp_path):
    parts = pack("one", "a", 0o755)
    out = tmp_path / "one" / "out"
    (out / "sources.json").unlink()
    for content in parts.values():
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(tmp_path / "unpacked", filter="tar")
            assert {(one.uid, one.gid, one.mtime, one.uname) for one in tar} == {(0, 0, 1, "")}
    assert tree(tmp_path / "unpacked") == tree(out)
    assert (tmp_path / "unpacked" / "model" / "link.py").readlink() == Path("more.py")


@pytest.fixture
def write(tmp_path):
    """Writes the example's export somewhere."""
    spec = ModelSpec.from_json((EXAMPLE / "spec.json").read_text())
    lock = read_lock(EXAMPLE / "tungsten.lock")
    files = select_files(EXAMPLE, spec.include_files, spec.exclude_files, spec.module)

    def write(out, sources=None):
        export(spec, lock, Contents(EXAMPLE, files), sources or {}, out)
        return out

    return write


def tree(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_export_holds_all_that_a_build_reads(write, tmp_path):
    names = set(tree(write(tmp_path / "out")))
    assert {"flake.nix", "spec.json", "tungsten.lock", "sources.json", "model/tungsten_model.py"} <= names
    assert {"nix/default.nix", "nix/tools/layer.py", "nix/inputs/wheels.json"} <= names
    assert {
        "tungstenkit/sdk/define.py",
        "tungstenkit/py.typed",
        "server/tungsten_server/__main__.py",
    } <= names
    assert {
        "server/tungsten_server/page/static/demo.html",
        "server/tungsten_server/page/static/demo.js",
    } <= names
    assert not [name for name in names if "cli" in name or "resolve" in name or "__pycache__" in name]


def test_an_export_is_the_same_bytes_each_time(write, tmp_path):
    assert tree(write(tmp_path / "one")) == tree(write(tmp_path / "two"))


def packed(export, path):
    digest = pack_export(export, path)
    with tarfile.open(path) as archive:
        return digest, set(archive.getnames())


def test_it_is_named_by_all_of_it_that_is_no_machine_s(write, tmp_path):
    out = write(tmp_path / "out")
    (out / "files").mkdir()
    (out / "files" / "own.whl").touch()
    named, names = packed(out, tmp_path / "one.tar")
    assert names == set(tree(out)) - {"sources.json", "files/own.whl"}
    other = write(tmp_path / "other", sources={"0" * 64: ["https://h.example/x"]})
    assert packed(other, tmp_path / "two.tar") == (named, names)
    (other / "model" / "tungsten_model.py").write_text("pass")
    assert packed(other, tmp_path / "three.tar")[0] != named


def test_what_is_kept_of_it_in_parts_has_its_name(write, tmp_path):
    """As who unpacks them finds it."""
    out = write(tmp_path / "out")
    spec = ModelSpec.from_json((out / "spec.json").read_text())
    files = select_files(EXAMPLE, spec.include_files, spec.exclude_files, spec.module)
    folder = tmp_path / "unpacked"
    for part in flake.pack(spec, read_lock(out / LOCK_NAME), Contents(EXAMPLE, files), tmp_path).values():
        with tarfile.open(part) as archive:
            unpack(archive, folder)
    assert pack_export(folder, tmp_path / "1.tar") == pack_export(out, tmp_path / "2.tar")


def test_what_can_not_be_packed_is_told(write, tmp_path):
    (tmp_path / "there").touch()
    with pytest.raises(ExportError, match="there is something already"):
        pack_export(write(tmp_path / "out"), tmp_path / "there")


def test_what_an_export_would_be_is_told_without_it(write, tmp_path, monkeypatch):
    told = []

    def both(*arguments):
        told.append((flake.export(*arguments), digest(*arguments[:-1])))

    monkeypatch.setattr(sys.modules[__name__], "export", both)
    for sources in ({}, {"0" * 64: ["https://h.example/x"]}):
        write(tmp_path / "out", sources)
        write(tmp_path / "out", sources)
    (first, again, other, _) = told
    assert first == again
    assert all(exported == would_be for exported, would_be in told)
    assert first != other


def test_an_older_export_is_replaced_whole(write, tmp_path):
    out = write(tmp_path / "out")
    (out / "model" / "stale.txt").write_text("of an earlier version")
    write(out)
    assert not (out / "model" / "stale.txt").exists()


def test_of_an_older_export_what_is_the_same_stays(write, tmp_path):
    out = write(tmp_path / "out")
    before = {path: path.stat().st_ino for path in out.rglob("*") if path.is_file()}
    write(out)
    again = {path for path, inode in before.items() if path.stat().st_ino == inode}
    assert {path.relative_to(out).parts[0] for path in again} == {"nix", "server", "tungstenkit"}


def spoil_text(out, part):
    file = next(path for path in sorted(part.rglob("*.py")) if path.stat().st_size)
    file.write_text(file.read_text()[::-1])


def spoil_by_a_link(out, part):
    file = next(part.rglob("*.py"))
    file.rename(out / "elsewhere")
    file.symlink_to(out / "elsewhere")


def spoil_by_a_link_of_all(out, part):
    part.rename(out / "elsewhere")
    part.symlink_to(out / "elsewhere")


@pytest.mark.parametrize("part", ["nix", "server", "tungstenkit"])
@pytest.mark.parametrize(
    "spoil",
    [
        spoil_text,
        spoil_by_a_link,
        spoil_by_a_link_of_all,
        lambda _, part: next(part.rglob("*.py")).unlink(),
        lambda _, part: next(part.rglob("*.py")).chmod(0o755),
        lambda _, part: (part / "more.txt").touch(),
        lambda _, part: (part / "more").mkdir(),
        lambda out, part: (part.rename(out / "elsewhere"), part.touch()),
    ],
)
def test_of_an_older_export_what_is_not_the_same_is_made_anew(write, tmp_path, part, spoil):
    fresh = listing(write(tmp_path / "fresh") / part)
    out = write(tmp_path / "out")
    assert listing(out / part) == fresh
    spoil(out, out / part)
    assert listing(out / part) != fresh
    assert listing(write(out) / part) == fresh


def listing(folder):
    """All of it that Nix looks at."""
    found = {".": folder.lstat().st_mode}
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, content)
    return found


def test_what_is_not_ours_in_an_older_export_stays(write, tmp_path):
    out = write(tmp_path / "out")
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("ref")
    (out / "NOTES").write_text("mine")
    write(out)
    assert (out / ".git" / "HEAD").read_text() == "ref"
    assert (out / "NOTES").read_text() == "mine"


def test_a_link_as_the_place_is_followed(write, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "flake.nix").exists()


def test_something_else_is_not_overwritten(write, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match="not overwritten") as caught:
        write(tmp_path / "out")
    assert caught.value.hint == "remove it"
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_a_failure_leaves_nothing_behind(write, tmp_path, monkeypatch):
    def full(entry, folder):
        raise OSError(28, "No space left on device", str(folder / entry.path))

    monkeypatch.setattr(flake._Entry, "write", full)
    with pytest.raises(ExportError, match="No space left"):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_told_to_remove_the_model(write):
    with pytest.raises(ExportError, match="not overwritten") as caught:
        write(EXAMPLE)
    assert caught.value.hint is None


def test_on_a_full_disk_the_file_that_can_not_be_written_is_named(write, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match="No space left") as caught:
        write(tmp_path / "out")
    assert caught.value.where.startswith(str(tmp_path))
    assert caught.value.where.endswith("/export/model/README.md")
    # Of the commands that write an export, one alone has a place to choose, and says so itself.
    assert caught.value.hint == "make room there; nothing was left behind"
    assert list(tmp_path.iterdir()) == []


def test_urls_with_a_password_are_not_written_down():
    urls = {
        "a": ["https://user:secret@private.invalid/a", "https://open.invalid/a"],
        "b": ["https://token@private.invalid/b"],
        "c": ["https://open.invalid/@c"],
    }
    assert public(urls) == {"a": ["https://open.invalid/a"], "c": ["https://open.invalid/@c"]}


def test_sources_are_written_as_they_are_given(write, tmp_path):
    out = write(tmp_path / "out", {"ab": ["https://open.invalid/x"]})
    assert json.loads((out / "sources.json").read_text()) == {"ab": ["https://open.invalid/x"]}


def test_inside_a_git_work_tree_the_way_for_nix_is_named(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    out = tmp_path / "export"
    out.mkdir()
    notice = git_notice(out)
    assert f"path:{out}#model-image" in notice
    assert f"git add -N {out}" in notice


def test_outside_of_git_nothing_is_said(tmp_path):
    assert git_notice(tmp_path) is None
