"""Folders that lie over each other, as mounts: what is bound, what is copied, and what hides what."""

import pytest

from tungstenkit.run.address import Address
from tungstenkit.run.image_root import _lay, root_program
from tungstenkit.sdk.errors import BuildError


@pytest.fixture
def part(tmp_path):
    def make(name, files=(), links=()):
        folder = tmp_path / name
        for path, size in dict(files).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(name.encode() * size)
        for path, target in dict(links).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(target)
        return folder

    return make


@pytest.fixture
def lay(tmp_path):
    def lay(*parts):
        new = tmp_path / "new"
        new.mkdir()
        return new, {str(target.relative_to(new)): source for source, target in _lay(list(parts), new)}

    return lay


def test_what_one_part_has_alone_is_bound_whole(part, lay):
    base = part("base", {"usr/bin/x": 1, "home/other/x": 1}, {"bin": "usr/bin"})
    new, binds = lay(base, part("top", {"opt/tungsten/spec.json": 1}))
    assert set(binds) == {"usr", "opt", "home/other"}
    assert (new / "bin").readlink().name == "bin"


def test_folders_that_several_have_are_joined_and_the_upper_one_wins(part, lay):
    base = part("base", {"opt/a/x": 1, "opt/both": 1})
    top = part("top", {"opt/b/x": 1, "opt/both": 1})
    _, binds = lay(base, top)
    assert binds == {"opt/a": base / "opt/a", "opt/b": top / "opt/b", "opt/both": top / "opt/both"}


def test_what_can_be_written_is_copied_but_for_big_files(part, lay):
    base = part(
        "base", {"app/code.py": 1, "app/weights.bin": 1 << 19, "home/nonroot/.cache/x": 1, "etc/passwd": 1}
    )
    new, binds = lay(base, part("top", {"app/code.py": 2}))
    assert binds == {"app/weights.bin": base / "app/weights.bin"}
    assert (new / "app/code.py").read_bytes() == b"toptop"
    assert (new / "app/weights.bin").stat().st_size == 0  # where it is bound
    assert (new / "home/nonroot/.cache/x").read_bytes() == b"base"
    (new / "etc/passwd").write_text("")  # a copy


def test_what_the_kernel_shows_is_not_taken_from_an_image(part, lay):
    _, binds = lay(part("base", {"proc/x": 1, "dev/x": 1, "tmp/x": 1, "usr/x": 1}))
    assert set(binds) == {"usr"}


def test_where_namespaces_are_forbidden_nothing_is_laid(tmp_path):
    busybox = tmp_path / "busybox"
    busybox.write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n")
    busybox.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(BuildError, match="does not allow user namespaces") as caught:
        root_program(tmp_path / "layout", tmp_path, scratch, Address("127.0.0.1", 1), [])
    assert "unshare: Operation not permitted" in caught.value.where
    assert list(scratch.iterdir()) == []
