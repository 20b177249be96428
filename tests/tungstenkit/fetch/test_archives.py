"""Source archives: the same bytes wherever they are made, and what they say of themselves without being run."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.machine import need
from tungstenkit.fetch import archives, packing
from tungstenkit.fetch.archives import read_facts
from tungstenkit.fetch.packing import check_out, pack
from tungstenkit.sdk.errors import FetchError, ResolveError


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def sdist(folder, files, name="foo-1.0.tar.gz"):
    path = folder / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in files.items():
                archive.writestr(f"foo-1.0/{member}", text)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for member, text in files.items():
            info = tarfile.TarInfo(f"foo-1.0/{member}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def facts(folder, files, **options):
    path = sdist(folder, files, **options)
    return read_facts(path, path.name)


class TestPack:
    def test_only_what_is_in_the_files_counts(self, tmp_path):
        first = write(tmp_path / "one", {"b.py": "1", "a/x": "2"})
        second = write(
            tmp_path / "two", {"a/x": "2", "b.py": "1", "__pycache__/b.pyc": "3", ".git/HEAD": "4"}
        )
        write(second, {"foo.egg-info/PKG-INFO": "5", "build/lib/b.py": "6"})
        (first / "b.py").chmod(0o600)
        os.utime(second / "b.py", (1, 1))
        pack(first, tmp_path / "one.tar")
        pack(second, tmp_path / "two.tar")
        assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()

    def test_the_executable_bit_counts(self, tmp_path):
        folder = write(tmp_path / "one", {"run": "1"})
        pack(folder, tmp_path / "one.tar")
        (folder / "run").chmod(0o755)
        pack(folder, tmp_path / "two.tar")
        assert (tmp_path / "one.tar").read_bytes() != (tmp_path / "two.tar").read_bytes()

    def test_a_package_called_build_is_no_leaving(self, tmp_path):
        pack(write(tmp_path / "one", {"build/__init__.py": ""}), tmp_path / "one.tar")
        with tarfile.open(tmp_path / "one.tar") as archive:
            assert archive.getnames() == ["source/build/__init__.py"]

    def test_a_link_out_of_the_folder_is_refused(self, tmp_path):
        folder = write(tmp_path / "one", {"a": ""})
        (folder / "out").symlink_to("../two")
        with pytest.raises(FetchError, match=r"links out of the source, to \.\./two"):
            pack(folder, tmp_path / "one.tar")


@pytest.fixture
def repository(tmp_path):
    """A git repository with two commits: `v1`, and `main` behind it."""
    need("git")
    folder = tmp_path / "repository"
    folder.mkdir()

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@host.example", "-c", "init.defaultBranch=main"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    write(folder, {"a": "1"})
    git("add", "a")
    git("commit", "--quiet", "-m", "one")
    git("tag", "v1")
    write(folder, {"a": "2"})
    git("commit", "--quiet", "-am", "two")
    return folder, git


class TestGit:
    @pytest.mark.parametrize(("ref", "content"), [(None, b"2"), ("main", b"2"), ("v1", b"1")])
    def test_a_branch_or_tag_becomes_a_commit(self, repository, tmp_path, ref, content):
        folder, git = repository
        commit = check_out(folder.as_uri(), ref, tmp_path / "out.tar")
        assert commit == git("rev-parse", f"{ref or 'HEAD'}^{{commit}}")
        with tarfile.open(tmp_path / "out.tar") as archive:
            assert archive.extractfile("source/a").read() == content

    def test_a_commit_that_no_branch_ends_at_gives_the_same_archive_again(self, repository, tmp_path):
        folder, git = repository
        commit = git("rev-parse", "v1")
        check_out(folder.as_uri(), "v1", tmp_path / "one.tar")
        git("tag", "-d", "v1")
        assert check_out(folder.as_uri(), commit, tmp_path / "two.tar") == commit
        assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()

    def test_this_machines_git_settings_do_not_count(self, repository, tmp_path, monkeypatch):
        folder, _ = repository
        check_out(folder.as_uri(), "v1", tmp_path / "one.tar")
        (tmp_path / "config").write_text("[core]\n\tautocrlf = true\n")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
        check_out(folder.as_uri(), "v1", tmp_path / "two.tar")
        assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()

    def test_what_is_not_there_is_an_error(self, repository, tmp_path):
        folder, _ = repository
        with pytest.raises(FetchError, match="git can't get it"):
            check_out(folder.as_uri(), "no-such-branch", tmp_path / "out.tar")
        with pytest.raises(FetchError, match="git can't get it") as caught:
            check_out("file:///no/such/repository", None, tmp_path / "out.tar")
        assert caught.value.where == "file:///no/such/repository"

    def test_without_git_the_error_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(FetchError, match="git is not installed"):
            check_out("https://host.example/foo", None, tmp_path / "out.tar")


LARGE = b"weights\n" * 100
_SHA256 = hashlib.sha256(LARGE).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{_SHA256}\nsize {len(LARGE)}\n"
GIT_LFS = """#!{python}
import os, pathlib, subprocess, sys
url = subprocess.run(["git", "config", "remote.origin.url"], capture_output=True, text=True).stdout.strip()
pointer = sys.stdin.read()
assert sys.argv[1:3] == ["smudge", "--"] and os.environ["GIT_LFS_SKIP_SMUDGE"] == "0"
objects = pathlib.Path(url.removeprefix("file://")) / ".git" / "objects-of-lfs"
place = objects / pointer.split("sha256:")[1].split()[0]
sys.stdout.buffer.write(place.read_bytes() if place.exists() else pointer.encode())
"""
"""Does what git-lfs does for one pointer, of a folder of this machine."""


class TestLargeFiles:
    @pytest.fixture
    def large(self, repository):
        folder, git = repository
        write(folder, {"weights.bin": POINTER, "sub/more.bin": POINTER, "notes": f"{POINTER}and more"})
        write(folder, {".lfsconfig": "[lfs]\n\turl = https://evil.example/lfs\n\tfetchexclude = *\n"})
        git("add", "-A")
        git("commit", "--quiet", "-m", "large")
        return folder

    @pytest.fixture
    def git_lfs(self, tmp_path, monkeypatch):
        """A `git-lfs` on PATH; git itself runs what is called so."""
        program = tmp_path / "bin" / "git-lfs"
        program.parent.mkdir()
        program.write_text(GIT_LFS.format(python=sys.executable))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def keep(self, folder, content=LARGE):
        place = folder / ".git" / "objects-of-lfs" / _SHA256
        place.parent.mkdir()
        place.write_bytes(content)

    @pytest.mark.usefixtures("git_lfs")
    def test_they_take_their_pointers_places(self, large, tmp_path):
        self.keep(large)
        check_out(large.as_uri(), None, tmp_path / "out.tar")
        with tarfile.open(tmp_path / "out.tar") as archive:
            assert archive.extractfile("source/weights.bin").read() == LARGE
            assert archive.extractfile("source/sub/more.bin").read() == LARGE
            assert archive.extractfile("source/notes").read().endswith(b"and more")

    @pytest.mark.usefixtures("git_lfs")
    @pytest.mark.parametrize("content", [None, b"other"])
    def test_what_is_not_had_or_is_another_file_is_named(self, large, tmp_path, content):
        if content is not None:
            self.keep(large, content)
        with pytest.raises(
            FetchError, match=r"git-lfs does not give sub/more.bin, whose sha256 is"
        ) as caught:
            check_out(large.as_uri(), None, tmp_path / "out.tar")
        assert caught.value.where == large.as_uri()

    def test_without_git_lfs_the_error_names_the_files(self, large, tmp_path, monkeypatch):
        monkeypatch.setattr(packing.shutil, "which", lambda _name: None)
        with pytest.raises(FetchError) as caught:
            check_out(large.as_uri(), None, tmp_path / "out.tar")
        assert caught.value.what == "sub/more.bin, weights.bin are Git LFS pointers, and not the files"
        assert "apt-get install git-lfs" in caught.value.hint


SETUP = {"setup.py": "raise SystemExit('it was run')"}


class TestFacts:
    def test_a_project_table(self, tmp_path):
        text = """
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"
            [project]
            name = "Foo.Bar"
            version = "1.0"
            requires-python = ">=3.9"
            dependencies = ["six"]
            optional-dependencies = { x = ["attrs; python_version < '4'"] }
        """
        found = facts(tmp_path, {"pyproject.toml": text})
        assert (found.name, found.version, found.requires_python) == ("foo-bar", "1.0", ">=3.9")
        assert found.requires == ("six", 'attrs; python_version < "4" and extra == "x"')
        assert (found.backend, found.build_requires) == ("hatchling.build", ("hatchling",))

    def test_dynamic_parts_come_from_pkg_info(self, tmp_path):
        files = {
            "pyproject.toml": '[project]\nname = "foo"\ndynamic = ["version", "dependencies"]\n',
            "PKG-INFO": "Metadata-Version: 2.2\nName: foo\nVersion: 1.0\nRequires-Dist: six\n",
        }
        found = facts(tmp_path, files)
        assert (found.version, found.requires) == ("1.0", ("six",))

    def test_a_modern_pkg_info_without_requirements_has_none(self, tmp_path):
        info = "Metadata-Version: 2.2\nName: foo\nVersion: 1.0\n"
        assert facts(tmp_path, {**SETUP, "PKG-INFO": info}).requires == ()
        dynamic = info + "Dynamic: Requires-Dist\n"
        assert facts(tmp_path, {**SETUP, "PKG-INFO": dynamic}).requires is None

    def test_an_old_source_has_setuptools_notes(self, tmp_path):
        notes = "six\n\n[:python_version < '4']\nattrs\n\n[x]\nidna\n"
        files = {
            **SETUP,
            "PKG-INFO": "Metadata-Version: 1.1\nName: foo\nVersion: 1.0\n",
            "foo.egg-info/PKG-INFO": "",
            "foo.egg-info/requires.txt": notes,
        }
        found = facts(tmp_path, files)
        assert found.requires == ("six", 'attrs; python_version < "4"', 'idna; extra == "x"')
        assert (found.backend, found.build_requires) == (
            "setuptools.build_meta:__legacy__",
            ("setuptools>=40.8.0",),
        )

    def test_setup_cfg_says_what_it_states_itself(self, tmp_path):
        text = (
            "[metadata]\nname = foo\nversion = attr: foo.v\n[options]\ninstall_requires =\n  six\n  attrs>1\n"
        )
        found = facts(tmp_path, {"setup.cfg": text})
        assert (found.name, found.version, found.requires) == ("foo", None, ("six", "attrs>1"))

    def test_what_only_running_it_would_tell_is_unknown(self, tmp_path):
        found = facts(tmp_path, SETUP)
        assert (found.name, found.version, found.requires) == (None, None, None)

    def test_what_a_compiler_and_cargo_are_needed_for(self, tmp_path):
        found = facts(
            tmp_path, {**SETUP, "src/a.C": "", "src/b.pyx": "", "Cargo.toml": ""}, name="foo-1.0.zip"
        )
        assert found.compiles == {".c", ".pyx"}
        assert found.needs_cargo

    @pytest.mark.parametrize(
        ("text", "does"),
        [
            ("import pkg_resources\n", True),
            ("try:\n    from pkg_resources import x\nexcept ImportError: ...\n", True),
            ("# import pkg_resources\nimport setuptools, mypkg_resources\n", False),
        ],
    )
    def test_whether_setup_imports_what_setuptools_has_no_more(self, tmp_path, text, does):
        assert facts(tmp_path, {"setup.py": text}).imports_pkg_resources == does

    def test_a_subdirectory(self, tmp_path):
        path = sdist(tmp_path, {"py/foo/pyproject.toml": '[project]\nname = "foo"\nversion = "2"\n'})
        assert read_facts(path, path.name, "py/foo").version == "2"
        with pytest.raises(ResolveError, match="has no folder other"):
            read_facts(path, path.name, "other")

    def test_what_is_no_project_or_no_archive_is_refused(self, tmp_path):
        with pytest.raises(ResolveError, match=r"neither pyproject\.toml nor setup\.py"):
            facts(tmp_path, {"README": ""})
        (tmp_path / "bad.zip").write_bytes(b"no")
        with pytest.raises(ResolveError, match="no archive that can be read"):
            read_facts(tmp_path / "bad.zip", "bad.zip")
        with pytest.raises(ResolveError, match=r"pyproject\.toml can't be read"):
            facts(tmp_path, {"pyproject.toml": "["})


class TestHostileSources:
    @pytest.mark.parametrize(
        "text",
        [
            'build-system = "x"',
            "[build-system]\nrequires = 3",
            '[build-system]\nrequires = "setuptools"',
            "[build-system]\nrequires = []\nbuild-backend = 3",
            "[build-system]\nrequires = []\nbackend-path = 3",
            "[project]\nname = 3",
            '[project]\nname = "a"\nrequires-python = 3',
            '[project]\nname = "a"\ndependencies = 3',
            '[project]\nname = "a"\noptional-dependencies = ["x"]',
            "a = " + "[" * 50_000,
        ],
    )
    def test_values_of_another_kind_are_told(self, tmp_path, text):
        with pytest.raises(ResolveError, match=r"its pyproject\.toml can't be read"):
            facts(tmp_path, {"pyproject.toml": text})

    @pytest.mark.parametrize("target", ["pyproject.toml", "/etc/passwd", "../../outside"])
    def test_a_link_that_leads_nowhere_is_told(self, tmp_path, target):
        path = tmp_path / "foo-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("foo-1.0/pyproject.toml")
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        with pytest.raises(ResolveError, match=r"its pyproject\.toml can't be read"):
            read_facts(path, path.name)

    def test_a_file_that_unpacks_without_end_is_not_read_whole(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tungstenkit.fetch.archives._MOST_TEXT", 100)
        with pytest.raises(ResolveError, match="larger than any real one"):
            facts(tmp_path, {"pyproject.toml": "#" * 101})

    def test_a_damaged_member_is_told(self, tmp_path):
        path = tmp_path / "foo-1.0.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("foo-1.0/pyproject.toml", "[project]\nname = 'foo'\n" * 50)
        content = bytearray(path.read_bytes())
        content[55:65] = b"\xff" * 10
        path.write_bytes(content)
        with pytest.raises(ResolveError, match="can't be read"):
            read_facts(path, path.name)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "sparse"])
def test_a_source_that_blows_up_is_refused_by_its_name(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "_ALWAYS_FINE", 1 << 20)
    path = tmp_path / f"foo-1.0.{'zip' if kind == 'zip' else 'tar.gz' if kind == 'tar.gz' else 'tar'}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("foo-1.0/setup.py", "")
            archive.writestr("foo-1.0/zeros", bytes(3 << 20))
    else:
        header = tarfile.TarInfo("foo-1.0/zeros")
        header.size = 8 << 40
        data = bytearray(header.tobuf(tarfile.GNU_FORMAT))
        if kind == "sparse":
            header.size = 0
            data = bytearray(header.tobuf(tarfile.GNU_FORMAT))
            data[156:157] = tarfile.GNUTYPE_SPARSE
            data[483:495] = b"\x80" + (8 << 40).to_bytes(11, "big")
            blank = bytes(data[:148]) + b" " * 8 + bytes(data[156:])
            data[148:156] = b"%06o\0 " % tarfile.calc_chksums(blank)[0]
        end = bytes(1024)
        path.write_bytes(gzip.compress(bytes(data) + end) if kind == "tar.gz" else bytes(data) + end)
    with pytest.raises(ResolveError, match=r"which no source does|is no archive") as caught:
        read_facts(path, path.name)
    assert caught.value.where == path.name
