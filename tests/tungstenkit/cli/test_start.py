"""How a command starts: what it imports before its first line of work, and what ends it there."""

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from tests import generate
from tungstenkit.cli import main as command_line
from tungstenkit.cli.arguments import EngineArgs, _Begun
from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.sdk.errors import TungstenError
from tungstenkit.spec.reading import Reader, Reading

pytestmark = pytest.mark.timeless("what a start imports, and what ends it, has no date")

BLUR = Path(__file__).parents[3] / "examples" / "blur"


@pytest.fixture(scope="module")
def blur(tmp_path_factory):
    """The example, locked by this tungsten: of another one's lock there is something to say."""
    folder = tmp_path_factory.mktemp("start") / "blur"
    shutil.copytree(BLUR, folder, ignore=shutil.ignore_patterns(".tungsten"))
    (folder / LOCK_NAME).write_text(generate.locks()[BLUR / LOCK_NAME])
    return folder


PROGRAM = """
import sys
from tungstenkit.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("modules:", *{name.partition(".")[0] for name in sys.modules})
"""
NETWORK = {"requests", "urllib3", "pysequoia"}
SOLVING = {"solv", "elftools"}
MODEL = {"pydantic", "PIL", "pathspec"}


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--version"], NETWORK | SOLVING | MODEL | {"rich"}),
        (["--help"], NETWORK | SOLVING | MODEL | {"rich"}),
        (["init", "--help"], NETWORK | SOLVING | MODEL | {"rich"}),
        (["lock", "--help"], NETWORK | SOLVING | MODEL | {"rich"}),
        (["models", "--help"], NETWORK | SOLVING | MODEL | {"rich"}),
        (["clean", "--help"], NETWORK | SOLVING | MODEL | {"rich"}),
        (["completion", "bash"], NETWORK | SOLVING | {"PIL", "pathspec", "rich"}),
        (["lock", "--check", str(BLUR)], NETWORK | SOLVING | {"PIL", "pathspec", "tarfile", "rich"}),
    ],
)
def test_a_command_imports_what_it_needs_alone(arguments, unused, blur):
    command = [sys.executable, "-c", PROGRAM, *(str(blur) if one == str(BLUR) else one for one in arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(run.stdout.rpartition("modules: ")[2].split())
    assert "typer" in imported
    assert imported & unused == set()


BEGUN = """
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

class Watching(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("pydantic.main", "tungstenkit.project.folder") and name not in seen:
            children = Path(f"/proc/self/task/{Path('/proc/self').readlink()}/children").read_text().split()
            seen[name] = len(children)

seen = {}
sys.meta_path.insert(0, Watching())
from tungstenkit.cli.main import main
try:
    main()
finally:
    print("children:", *sorted(seen.items()), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["lock", "--check"], ["build"]])
def test_a_module_is_being_read_when_what_judges_it_is_imported(arguments, tmp_path):
    (tmp_path / "tungsten_model.py").write_text("raise RuntimeError('far enough')")
    command = [sys.executable, "-c", BEGUN, *arguments, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "RuntimeError: far enough" in run.stderr
    assert run.stderr.splitlines()[-1] == "children: ('pydantic.main', 1) ('tungstenkit.project.folder', 1)"


STARTED = """
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

class Watching(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            children = Path(f"/proc/self/task/{Path('/proc/self').readlink()}/children").read_text().split()
            print("children:", len(children), file=sys.stderr, flush=True)

sys.meta_path.insert(0, Watching())
from tungstenkit.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "variables", "started"),
    [
        (["lock", "--check", str(BLUR)], {}, 1),
        (["lock", "--no-such-option", str(BLUR)], {}, 1),
        (["build", "no-such-folder"], {}, 1),
        (["build", "no-such-folder"], {"TUNGSTEN_TRUST": "0"}, 0),
        (["build", "--trust", "no-such-folder"], {}, 0),
        (["build", "--help"], {}, 0),
        (["lock", "--against", "HEAD", str(BLUR)], {}, 0),
        (["why", "python3.11", str(BLUR)], {}, 0),
    ],
)
def test_what_reads_a_module_is_started_before_a_line_is_looked_at(arguments, variables, started):
    """Where it may be one that has it read, by what runs apart."""
    environment = {name: value for name, value in os.environ.items() if name != "TUNGSTEN_TRUST"} | variables
    command = [sys.executable, "-c", STARTED, *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[0] == f"children: {started}"


def test_what_waits_to_read_a_module_is_ended_where_there_is_none(tmp_path):
    reader = Reader()
    with _Begun({"directory": str(tmp_path), "module": None, "trust": False}, reader) as begun:
        assert begun.reading is None
    assert reader.process.returncode == -signal.SIGKILL


def test_what_waits_to_read_a_module_ends_with_whoever_would_tell_it(tmp_path):
    reader = Reader()
    reader._orders.close()
    assert reader.process.wait(timeout=60) == 1
    reader.close()


@pytest.mark.parametrize("first", ["lock", "why", "serve", "models", "--version", "no-such-command", ""])
def test_a_command_is_the_same_whichever_others_are_made(first, capsys):
    """Only its group's are, for a line that begins with one."""
    every, made = (
        {one.name for one in (*app.registered_commands, *app.registered_groups)}
        for app in (command_line.command_line(), command_line.command_line(first))
    )
    assert made <= every
    assert (made == every) is (first not in every)
    if first in every:
        helps = []
        for app in (command_line.command_line(first), command_line.command_line()):
            with pytest.raises(SystemExit):
                app([first, "--help"], prog_name="tungsten")
            helps.append(capsys.readouterr().out)
        assert helps[0] == helps[1] != ""


def test_the_list_of_commands_says_what_each_does_in_whole_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        command_line.command_line()(["--help"])
    lines = capsys.readouterr().out.partition("Commands:")[2].splitlines()
    assert [line for line in lines if line.endswith("...")] == []
    assert len(lines) > 20


HIDES = "import pathlib, sys\nsys.exit(str(pathlib.Path('HOST').exists()))"


@pytest.mark.parametrize(
    ("arguments", "variable", "is_seen"),
    [
        ([], None, False),
        ([], "0", False),
        ([], "1", True),
        (["--trust"], None, True),
        (["--trust"], "0", True),
    ],
)
def test_a_module_that_is_read_early_is_trusted_where_that_was_said(
    tmp_path, monkeypatch, arguments, variable, is_seen
):
    """Whatever a line's or a variable's text means before it is looked at."""
    (tmp_path / "model").mkdir()
    (tmp_path / "outside").touch()
    (tmp_path / "model" / "tungsten_model.py").write_text(HIDES.replace("HOST", str(tmp_path / "outside")))
    monkeypatch.delenv("TUNGSTEN_TRUST", raising=False)
    if variable is not None:
        monkeypatch.setenv("TUNGSTEN_TRUST", variable)
    command = [sys.executable, "-m", "tungstenkit", "build", *arguments, str(tmp_path / "model")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"the module exits when it is imported, with '{is_seen}'" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "no-such-folder"], "does not exist"),
        (["build", "--no-such-option"], "No such option"),
        (["build", "-m", "no.such", str(BLUR)], "there is no module no.such"),
        (["lock", "--check", "--upgrade", str(BLUR)], "only read locks"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_though_a_module_would_be_read(arguments, said):
    command = [sys.executable, "-m", "tungstenkit", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode in (1, 2)
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_a_reading_that_nobody_took_is_ended(tmp_path):
    (tmp_path / "tungsten_model.py").write_text("import time; time.sleep(600)")
    with _Begun({"directory": str(tmp_path), "module": None, "trust": False}) as begun:
        assert begun.taken(tmp_path, None, trust=True) is None
        assert begun.taken(tmp_path, "other", trust=False) is None
        assert begun.taken(tmp_path.parent, None, trust=False) is None
        reading = begun.taken(tmp_path, None, trust=False)
        assert reading is not None
        process = reading._reader.process
        assert process.poll() is None
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "arguments",
    [["lock", "--package-set", "none"], ["lock", "--check", "--upgrade"], ["build", "--tag", "a b"]],
)
def test_a_reading_is_ended_whatever_is_wrong_with_the_line(monkeypatch, tmp_path, arguments):
    begun = []

    class Noted(Reading):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            begun.append(self._reader.process)

    monkeypatch.setattr("tungstenkit.spec.reading.Reading", Noted)
    (tmp_path / "tungsten_model.py").write_text(
        "import time; time.sleep(600)" if arguments[0] == "lock" else ""
    )
    with pytest.raises((SystemExit, TungstenError)):
        command_line.command_line()([*arguments, str(tmp_path)], prog_name="tungsten")
    (process,) = begun
    assert process.returncode is not None


KILLED = """
import os, signal, sys
from pathlib import Path
from tungstenkit.spec.reading import Reader, Reading

reading = Reading(Path(sys.argv[1]), trust=sys.argv[2] == "True")
print(reading._reader.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("trust", [False, True])
def test_a_reading_ends_with_whoever_has_begun_it(tmp_path, trust):
    """An interruption may come before it is known, and a kill is not seen."""
    (tmp_path / "tungsten_model.py").write_text("import time; time.sleep(600)")
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(trust)]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    waiting = select.poll()
    waiting.register(ended, select.POLLIN)
    try:
        assert waiting.poll(30_000)
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.close(ended)


@pytest.mark.parametrize("trusts", [[], ["--trust"]])
@pytest.mark.parametrize("wrong", [["-h"], ["--help"], ["one too many"], ["--no-such-option"]])
def test_no_module_is_begun_for_a_line_that_reads_none(monkeypatch, tmp_path, trusts, wrong):
    monkeypatch.setattr("tungstenkit.spec.reading.Reading", begun_in_vain)
    (tmp_path / "tungsten_model.py").touch()
    with pytest.raises(SystemExit):
        command_line.command_line()(["build", str(tmp_path), *trusts, *wrong], prog_name="tungsten")


@pytest.mark.parametrize("wrong", [["lock", "--package-set", "none"], ["lock", "--check", "--upgrade"]])
def test_what_runs_as_the_user_is_not_begun_before_the_line_is_known_to_be_right(
    monkeypatch, tmp_path, wrong
):
    """It would be ended midway, whatever it does."""
    monkeypatch.setattr("tungstenkit.spec.reading.Reading", begun_in_vain)
    (tmp_path / "tungsten_model.py").touch()
    with pytest.raises(SystemExit):
        command_line.command_line()([*wrong, "--trust", str(tmp_path)], prog_name="tungsten")


def begun_in_vain(*_, **__):
    raise AssertionError("the module is being read")


STOPPED = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Stopping(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), getattr(signal, sent))

module, sent, *sys.argv[1:] = sys.argv[1:]
sys.meta_path.insert(0, Stopping())
# As in a terminal, whoever runs the tests.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from tungstenkit.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("module", ["tungstenkit.cli.main", "typer", "tungstenkit.sdk.errors"])
def test_an_interruption_while_it_starts_is_one_line(module, name):
    command = [sys.executable, "-c", STOPPED, module, name, "lock", "--check", str(BLUR)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout) == (130, "interrupted\n", "")


@pytest.mark.parametrize("module", ["tungstenkit.project.folder", "pydantic.main"])
def test_an_interruption_of_a_command_is_one_line(module):
    command = [sys.executable, "-c", STOPPED, module, "SIGINT", "lock", "--check", str(BLUR)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout) == (130, "interrupted; nothing is half-written\n", "")


def test_the_command_starts_where_that_holds():
    scripts = tomllib.loads((BLUR.parents[1] / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"tungsten": "tungstenkit.__main__:main"}


@pytest.mark.parametrize("arguments", [["--version"], ["lock", "--check", str(BLUR)], ["--help"]])
def test_what_reads_no_more_or_is_full_has_no_traceback(arguments, blur):
    command = [sys.executable, "-m", "tungstenkit"]
    command += [str(blur) if one == str(BLUR) else one for one in arguments]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[0] == "error: the disk is full"
    assert "TMPDIR" in run.stderr.splitlines()[1]
    assert len(run.stderr.splitlines()) == 2
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (run.returncode, run.stderr) == (1, "")


@pytest.mark.parametrize(
    ("problem", "lines"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            ["error: the disk is full", "  in:   /x/y", "  hint: make room"],
        ),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/x']"),
            ["error: temporary files can't be written anywhere", "  in:   /tmp, /x", "  hint: make room"],
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/x"),
            ["error: a file can't be written", "  in:   /x"],
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            ["error: too many files are open", "  hint: allow more"],
        ),
        (
            RuntimeError("Could not determine home directory."),
            ["error: this user has no home", "  in:   HOME", "  hint: set it to a folder"],
        ),
    ],
)
def test_what_is_wrong_with_the_machine_is_told_wherever_it_comes_up(monkeypatch, capfd, problem, lines):
    def app(**_):
        raise problem

    monkeypatch.setattr(command_line, "command_line", lambda *_: app)
    saved = os.dup(1)
    try:
        with pytest.raises(SystemExit) as caught:
            command_line.main()
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert caught.value.code == 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == len(lines)
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True))


@pytest.mark.parametrize(
    "problem",
    [FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), RuntimeError("no such thing")],
)
def test_a_defect_of_ours_keeps_its_traceback(monkeypatch, problem):
    def app(**_):
        raise problem

    monkeypatch.setattr(command_line, "command_line", lambda *_: app)
    with pytest.raises(type(problem)):
        command_line.main()


@pytest.mark.parametrize(
    ("variable", "arguments", "expected"),
    [
        ("--a --b", [], ["--a", "--b"]),
        ("--a --b", ["--engine-arg=--c", "--engine-arg=--d"], ["--a", "--b", "--c", "--d"]),
        ("--n=host --u a", ["--engine-arg=--n=host", "--engine-arg=--u"], ["--n=host", "--u", "a", "--u"]),
        (None, ["--engine-arg=--c"], ["--c"]),
        (None, [], []),
    ],
)
def test_what_the_machine_always_needs_is_given_besides(monkeypatch, variable, arguments, expected):
    monkeypatch.delenv("TUNGSTEN_ENGINE_ARGS", raising=False)
    if variable:
        monkeypatch.setenv("TUNGSTEN_ENGINE_ARGS", variable)
    app, found = typer.Typer(), []

    @app.command()
    def serve(given: EngineArgs = None) -> None:
        found.extend(given or [])

    app(arguments, standalone_mode=False)
    assert found == expected


@pytest.mark.parametrize(
    ("is_here", "words"), [(True, "`tungsten demo` runs"), (False, "`tungsten demo '{}'` runs")]
)
def test_without_an_engine_build_says_what_runs_its_folder(tmp_path, monkeypatch, capsys, is_here, words):
    folder = shutil.copytree(BLUR, tmp_path / "a model", ignore=shutil.ignore_patterns(".tungsten"))
    image = SimpleNamespace(layout=tmp_path, digest="sha256:1")
    monkeypatch.setattr("tungstenkit.project.making.make_image", lambda *_: ("x86_64-linux", image))
    monkeypatch.setattr("tungstenkit.nix_build.engine.find_engine", lambda: None)
    monkeypatch.chdir(folder if is_here else tmp_path)
    given = [] if is_here else [str(folder)]
    command_line.command_line("build")(["build", "--trust", *given], standalone_mode=False)
    assert words.format(folder) in capsys.readouterr().err
