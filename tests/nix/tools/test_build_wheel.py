"""A wheel is written anew in one way, whatever wrote it first."""

import csv
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.nix.conftest import TOOLS, told
from tungstenkit.settings import OF_EVERY_BUILD


def wheel(path, members, date):
    with zipfile.ZipFile(path, "w") as archive:
        for name, (text, mode) in members:
            info = zipfile.ZipInfo(name, date)
            info.external_attr = mode << 16
            archive.writestr(info, text)
    return path


MEMBERS = [
    ("foo.py", ("1", 0o100644)),
    ("foo-1.data/scripts/run", ("#!python\n", 0o100755)),
    ("foo-1.dist-info/METADATA", ("Name: foo\n", 0o100644)),
    ("foo-1.dist-info/RECORD", ("", 0o100644)),
]
REWRITE = "import sys; sys.path.insert(0, sys.argv[1]); import build_wheel, pathlib; "
REWRITE += "build_wheel.rewrite(*map(pathlib.Path, sys.argv[2:]))"


def rewrite(source, out):
    subprocess.run([sys.executable, "-c", REWRITE, TOOLS, source, out], check=True)
    return out.read_bytes()


def test_order_dates_modes_and_byte_code_do_not_count(tmp_path):
    first = wheel(tmp_path / "one.whl", MEMBERS, (1999, 1, 1, 0, 0, 0))
    others = [(name, (text, mode | 0o022)) for name, (text, mode) in reversed(MEMBERS)]
    others.append(("__pycache__/foo.cpython-311.pyc", ("made just now", 0o100644)))
    second = wheel(tmp_path / "two.whl", others, (2026, 1, 1, 0, 0, 0))
    assert rewrite(first, tmp_path / "a.whl") == rewrite(second, tmp_path / "b.whl")


def test_the_wheel_is_sound(tmp_path):
    """Each file stands in RECORD, which comes last."""
    source = wheel(tmp_path / "one.whl", MEMBERS, (1999, 1, 1, 0, 0, 0))
    out = tmp_path / "foo-1-py3-none-any.whl"
    rewrite(source, out)
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist()[-1] == "foo-1.dist-info/RECORD"
        assert archive.getinfo("foo-1.data/scripts/run").external_attr >> 16 == 0o100755
        rows = list(csv.reader(io.StringIO(archive.read("foo-1.dist-info/RECORD").decode())))
        *files, last = [row[0] for row in rows]
        assert files == sorted(files)
        assert last == "foo-1.dist-info/RECORD"
        assert {row[0] for row in rows} == set(archive.namelist())


@pytest.fixture
def build(tmp_path):
    """Run the program on an archive of files."""

    def build(files, **config):
        work = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
        (work / "out").mkdir(parents=True)
        (work / "tool").mkdir()
        (work / "tool" / "build_wheel.py").write_bytes((TOOLS / "build_wheel.py").read_bytes())
        with zipfile.ZipFile(work / "archive", "w") as archive:
            for name, text in files.items():
                archive.writestr(f"foo-1/{name}", text)
        fields = {"file": "foo-1.zip", "project": "foo", "version": "1", "subdirectory": ""}
        fields |= {"backend": "backend", "backend-path": ["."], "environment": {}}
        (work / "config.json").write_text(json.dumps(fields | config))
        command = [sys.executable, "-s", "-B", work / "tool" / "build_wheel.py", work]
        return subprocess.run(command, capture_output=True, text=True), work

    return build


BACKEND = """
import os, zipfile
def build_wheel(folder):
    assert os.environ["SOURCE_DATE_EPOCH"] == "315532800"
    with zipfile.ZipFile(os.path.join(folder, "foo-1-py3-none-any.whl"), "w") as archive:
        archive.writestr("where", os.getcwd().rpartition("/")[2])
        archive.writestr("foo-1.dist-info/RECORD", "")
    return "foo-1-py3-none-any.whl"
"""


def test_a_backend_of_the_sources_own_is_found_in_a_subdirectory(build):
    done, work = build({"py/backend.py": BACKEND}, subdirectory="py")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(work / "out" / "foo-1-py3-none-any.whl") as archive:
        assert archive.read("where") == b"py"


TELLING = """
import json, os, zipfile
def build_wheel(folder):
    with zipfile.ZipFile(os.path.join(folder, "foo-1-py3-none-any.whl"), "w") as archive:
        archive.writestr("environment", json.dumps(dict(os.environ)))
        archive.writestr("foo-1.dist-info/RECORD", "")
    return "foo-1-py3-none-any.whl"
"""


def environment_of(build, given):
    done, work = build({"backend.py": TELLING}, environment=given)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(work / "out" / "foo-1-py3-none-any.whl") as archive:
        return json.loads(archive.read("environment"))


def test_a_build_gets_the_variables_that_the_lock_has_for_it(build):
    """Flags of compilers come after ours, and whatever else is ours stays."""
    found = environment_of(build, {"CMAKE_ARGS": "-DA=ON -DB=OFF", "CFLAGS": "-mavx2", "TZ": "Asia/Seoul"})
    assert found["CMAKE_ARGS"] == "-DA=ON -DB=OFF"
    assert re.fullmatch(r"-ffile-prefix-map=\S+ -frandom-seed=tungsten -mavx2", found["CFLAGS"])
    assert re.fullmatch(r"-ffile-prefix-map=\S+ -frandom-seed=tungsten", found["CXXFLAGS"])
    assert found["TZ"] == "UTC"


def test_what_a_build_sets_itself_is_what_nobody_else_may_set(build):
    found = environment_of(build, dict.fromkeys(environment_of(build, {}), "theirs"))
    # A Python's seed counts from before there is one.
    assert "PYTHONHASHSEED=0" in (TOOLS / "build-wheel.sh").read_text()
    assert {name for name in found if not found[name].endswith("theirs")} == OF_EVERY_BUILD - {
        "PYTHONHASHSEED"
    }


def test_what_the_build_needs_and_the_source_does_not_declare_is_named(build):
    done, _ = build(
        {"backend.py": BACKEND + "def get_requires_for_build_wheel(): return ['no-such-tool>1']\n"}
    )
    assert done.returncode == 1
    assert "the build also needs no-such-tool>1" in done.stderr
    assert told(done.stderr) == [{"kind": "undeclared", "requirements": ["no-such-tool>1"]}]


def test_a_backend_that_is_not_there_is_named(build):
    done, _ = build({"setup.py": ""}, backend="no_such_backend:api")
    assert done.returncode == 1
    assert "the build backend no_such_backend:api can't be imported" in done.stderr


UNPACK = """
import sys; sys.path.insert(0, sys.argv[1]); import build_wheel; from pathlib import Path
build_wheel._ALWAYS_FINE = 1 << 20
try:
    build_wheel._unpack(Path(sys.argv[2]), sys.argv[3])
except build_wheel.BuildError as problem:
    print(problem)
"""


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_blows_up_is_not_unpacked(tmp_path, kind):
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "archive", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", bytes(3 << 20))
    else:
        header = tarfile.TarInfo("a")
        header.size = 8 << 40
        (tmp_path / "archive").write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    done = subprocess.run(
        [sys.executable, "-c", UNPACK, TOOLS, tmp_path, f"foo-1.{kind}"], capture_output=True, text=True
    )
    assert done.stdout == f"foo-1.{kind} unpacks to more than any source does\n", done.stderr
    assert not (tmp_path / "unpacked").exists()
