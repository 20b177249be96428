"""Steps of commands in a root of their own: where COPY and ADD put what, and what a failure says.

What programs see is tested with real images (`end_to_end/test_commands.py`).
"""

import importlib
import io
import subprocess
import sys
import tarfile

import pytest

from tests.machine import needs
from tests.nix.conftest import TOOLS, told

NAMESPACES = ["unshare", "-r", "-m", "-p", "-f"]


pytestmark = needs("namespaces")


@pytest.fixture
def context(tmp_path):
    """A model's files."""
    folder = tmp_path / "context"
    for name, text in {
        "a.txt": "a",
        "b.txt": "b",
        "sub/c.txt": "c",
        "sub/deep/d.txt": "d",
        "run.sh": "#!",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "run.sh").chmod(0o755)
    (folder / "sub/link").symlink_to("c.txt")
    return folder


def step(kind, *sources, destination="", **values):
    return {
        "kind": kind,
        "where": "dockerfile_commands[0], line 1",
        "text": "a step",
        "sources": [{"path": "/".join(source), "pattern": list(source)} for source in sources],
        "destination": destination,
        "uid": 0,
        "gid": 0,
        "mode": None,
        **values,
    }


@pytest.fixture
def take(run_tool, make_layer, context, tmp_path):
    """Take steps over a small root; what they changed, or the message of what failed."""
    lower = make_layer(
        {
            "kind": "files",
            "entries": [
                {"path": "opt/there", "type": "dir"},
                {"path": "opt/alias", "type": "link", "target": "/opt/there"},
                {"path": "opt/file", "type": "file", "text": "old"},
            ],
        }
    )

    def run(*steps, fails=False):
        config = {
            "layers": [str(lower.path)],
            "context": str(context),
            "steps": list(steps),
            "network": False,
            "on-base": False,
            "uid": 0,
            "gid": 0,
            "architecture": None,
            "variation": {"again": False, "baseline": False, "fake-time": None},
        }
        out = tmp_path / "out.tar"
        result = run_tool("run_commands.py", config, out, cwd=tmp_path)
        if fails:
            assert result.returncode == 1
            assert not out.exists()
            said = result.stderr.strip().splitlines()[-1]
            for failure in told(result.stderr):
                assert failure["kind"] == "command"
                words = f"error: {failure['where']}: {failure['what']} — {failure['hint']}"
                assert said == words.removesuffix(" — ")
            return said
        assert result.returncode == 0, result.stderr
        with tarfile.open(out) as tar:
            return {info.name: info for info in tar.getmembers() if not info.isdir()}

    return run


@pytest.mark.parametrize(
    ("sources", "destination", "made"),
    [
        ([["a.txt"]], "/opt/x", {"opt/x"}),
        ([["a.txt"]], "/opt/x/", {"opt/x/a.txt"}),
        ([["a.txt"]], "/opt/there", {"opt/there/a.txt"}),
        ([["a.txt"]], "/opt/alias", {"opt/there/a.txt"}),
        ([["a.txt"]], "/opt/alias/y", {"opt/there/y"}),
        ([["a.txt"]], "/opt/file", {"opt/file"}),
        ([[r"[^/]*\.txt"]], "/x/", {"x/a.txt", "x/b.txt"}),
        ([["a.txt"], ["b.txt"]], "/x/", {"x/a.txt", "x/b.txt"}),
        # Of a folder what is in it, not the folder itself.
        ([["sub"]], "/x", {"x/c.txt", "x/deep/d.txt", "x/link"}),
        ([["sub", "[^/]*"]], "/x/", {"x/c.txt", "x/d.txt", "x/link"}),
        ([[]], "/x/", {"x/a.txt", "x/b.txt", "x/run.sh", "x/sub/c.txt", "x/sub/deep/d.txt", "x/sub/link"}),
    ],
)
def test_where_a_copy_goes(take, sources, destination, made):
    assert set(take(step("copy", *sources, destination=destination))) == made


def test_modes_and_owners_of_a_copy(take):
    made = take(
        step("copy", ["run.sh"], ["a.txt"], destination="/x/", uid=5, gid=6),
        step("copy", ["b.txt"], destination="/y", mode="600"),
    )
    assert {name: (oct(info.mode), info.uid, info.gid) for name, info in made.items()} == {
        "x/run.sh": ("0o755", 5, 6),
        "x/a.txt": ("0o644", 5, 6),
        "y": ("0o600", 0, 0),
    }


def test_links_in_a_folder_stay_links(take):
    assert take(step("copy", ["sub"], destination="/x"))["x/link"].linkname == "c.txt"


def test_what_add_is_given_packed_comes_out_unpacked(take, context):
    with tarfile.open(context / "packed.tgz", "w:gz") as archive:
        for name, kind, link in (
            ("dir/file", tarfile.REGTYPE, ""),
            ("dir/soft", tarfile.SYMTYPE, "/etc"),
            ("dir/hard", tarfile.LNKTYPE, "dir/file"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode, info.uid, info.gid = kind, link, 0o640, 3, 4
            archive.addfile(info, io.BytesIO())
    made = take(step("add", ["packed.tgz"], ["a.txt"], destination="/x/"))
    assert set(made) == {"x/dir/file", "x/dir/soft", "x/dir/hard", "x/a.txt"}
    assert (made["x/dir/file"].uid, made["x/dir/file"].gid, made["x/dir/file"].mode) == (3, 4, 0o640)


def test_what_copy_is_given_packed_stays_packed(take, context):
    tarfile.open(context / "packed.tar", "w").close()
    assert set(take(step("copy", ["packed.tar"], destination="/x/"))) == {"x/packed.tar"}


def test_an_archive_stays_in_its_place(take, context):
    with tarfile.open(context / "bad.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../out"))
    assert "'..' in it" in take(step("add", ["bad.tar"], destination="/x/"), fails=True)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (step("copy", ["no.txt"], destination="/x"), "no.txt: no file of the model's is called that"),
        (step("copy", ["a.txt"], ["b.txt"], destination="/x"), "end /x with a slash"),
        (step("copy", ["a.txt"], destination="/opt/file/x"), "opt/file"),
        (
            step("copy", ["sub"], destination="/opt/file"),
            "opt/file",
        ),
    ],
)
def test_what_can_not_be_copied_is_told_with_its_line(take, given, what):
    error = take(given, fails=True)
    assert error.startswith("error: dockerfile_commands[0], line 1: ")
    assert what in error


def test_a_link_without_what_it_leads_to_says_what_to_name(take, context):
    (context / "alias").symlink_to("models/weights")
    error = take(step("copy", ["alias"], destination="/x"), fails=True)
    assert error.endswith("alias: it is a link to models/weights; name that in its place")


def test_a_working_directory_is_made(take):
    made = take(
        {**step("folder"), "path": "/opt/alias/new"}, step("copy", ["a.txt"], destination="/opt/there/new")
    )
    assert set(made) == {"opt/there/new/a.txt"}


def test_names_that_would_take_a_file_away_are_refused_all_at_once(take, context):
    with tarfile.open(context / "packed.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("sub/.wh.one"))
    error = take(
        step("add", ["packed.tar"], destination="/x/"),
        step("copy", ["a.txt"], destination="/opt/.wh.there"),
        fails=True,
    )
    assert "/opt/.wh.there (build steps), /x/sub/.wh.one (build steps)" in error


RUN = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from run_commands import Build
variation = {"again": False, "baseline": False}
build = Build(Path("/"), {"network": False, "on-base": False, "context": None, "variation": variation}, None, print)
script = "(setsid sleep 60 & sleep 60 &) & echo ran"
build.take({"kind": "run", "where": "", "text": "", "argv": ["/bin/sh", "-c", script], "cwd": "/", "environment": {}})
try:
    print("left", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("nothing left")
"""


def test_what_a_run_leaves_running_is_gone_before_its_result_is_read():
    done = subprocess.run(
        [*NAMESPACES, sys.executable, "-B", "-c", RUN, TOOLS], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (0, "nothing left\n"), done.stderr
    assert "ran" in done.stderr


@pytest.mark.parametrize(
    ("said", "on_base", "hint"),
    [
        ("/bin/sh: 1: make: not found", False, "named in system_packages"),
        ("/bin/sh: 1: make: not found", True, "what the base image has"),
        ("/bin/sh: 1: apt-get: not found", False, "is `apt-get install` alone"),
        ("bash: line 1: dpkg: command not found", True, "what the base image has"),
    ],
)
def test_what_is_missing_is_had_where_it_can_be_had(monkeypatch, tmp_path, said, on_base, hint):
    monkeypatch.syspath_prepend(TOOLS)
    build = importlib.import_module("run_commands").Build
    variation = {"again": False, "baseline": False}
    config = {"network": False, "on-base": on_base, "context": None, "variation": variation}
    assert hint in build(tmp_path, config, None, print)._hint([said], "RUN make")


@pytest.mark.parametrize(
    ("text", "network", "told"),
    [
        ("RUN wget -qO- $URL | tar xz", False, True),
        ("RUN git clone -q https://host/x", False, True),
        ("RUN wget -q $URL", True, False),
        ("RUN make", False, False),
    ],
)
def test_a_download_that_fails_without_a_word_is_told_of_the_network(
    monkeypatch, tmp_path, text, network, told
):
    monkeypatch.syspath_prepend(TOOLS)
    build = importlib.import_module("run_commands").Build
    variation = {"again": False, "baseline": False}
    config = {"network": network, "on-base": False, "context": None, "variation": variation}
    hint = build(tmp_path, config, None, print)._hint(["gzip: stdin: unexpected end of file"], text)
    assert ("--network=default" in hint) == told
