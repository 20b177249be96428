"""`tungsten init`: what it asks, what it prints, and that what it prints can be pasted."""

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from tungstenkit.project.template import TEMPLATES, about, templates

pytestmark = pytest.mark.timeless("what is asked, and what is printed, has no date")

CTRL_C = "\x03"
TUNGSTEN = [sys.executable, "-m", "tungstenkit"]


def init(folder, *arguments):
    return subprocess.run(
        [*TUNGSTEN, "init", *arguments], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def in_a_terminal(folder, answers, *arguments):
    """What a person sees who types some answers, and the exit status."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*TUNGSTEN, "init", *arguments],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        # The terminal becomes the one whose keys interrupt.
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as run:
        os.close(theirs)
        said = b""
        while answers and b"[plain]: " not in said:
            said += os.read(ours, 65536)
        os.write(ours, answers.encode())
        # Linux ends a terminal that nobody has open any more with an error.
        with suppress(OSError):
            while True:
                # A Ctrl-C between Python's look for signals and its wait for keys is seen with the next one.
                while answers == CTRL_C and not select.select([ours], [], [], 1)[0]:
                    os.write(ours, CTRL_C.encode())
                said += os.read(ours, 65536)
    os.close(ours)
    return said.decode().replace("\r\n", "\n"), run.returncode


def test_without_a_terminal_it_asks_nothing(tmp_path):
    done = init(tmp_path)
    assert (done.returncode, done.stdout) == (0, "tungsten_model.py\n")
    assert done.stderr.splitlines()[-2:] == ["  tungsten build", "  tungsten demo"]
    assert (tmp_path / "tungsten_model.py").read_bytes() == (
        TEMPLATES / "plain" / "tungsten_model.py"
    ).read_bytes()


def test_in_a_terminal_it_asks_one_question(tmp_path):
    for number, (typed, chosen) in enumerate(
        [("\n", "plain"), ("image\n", "image"), ("2\n", templates()[1])]
    ):
        said, status = in_a_terminal(tmp_path, typed, str(number))
        assert status == 0
        assert said.count("?") == 1
        assert all(f"{name} " in said and about(name) in said for name in templates())
        copy, own = tmp_path / str(number), TEMPLATES / chosen
        assert (copy / "tungsten_model.py").read_bytes() == (own / "tungsten_model.py").read_bytes()


def test_an_answer_that_is_none_is_asked_again(tmp_path):
    said, status = in_a_terminal(tmp_path, "0\n99\nvideo\ntext\n")
    assert status == 0
    assert said.count("is none of these") == 3
    assert "Summarizer" in (tmp_path / "tungsten_model.py").read_text()


def test_whoever_says_what_is_asked_nothing(tmp_path):
    said, status = in_a_terminal(tmp_path, "", "-t", "text", "model")
    assert (status, said.splitlines()[0]) == (0, "model/tungsten_model.py")
    assert "?" not in said


@pytest.mark.parametrize("key", [CTRL_C, "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_an_interruption_writes_nothing(tmp_path, key):
    said, status = in_a_terminal(tmp_path, key, "model")
    assert status == 130
    assert said.splitlines()[-1] == "interrupted; nothing is half-written"
    assert not (tmp_path / "model").exists()


def test_a_name_that_is_none_is_told_with_those_that_are(tmp_path):
    done = init(tmp_path, "--template", "video")
    assert done.returncode == 2
    assert all(name in done.stderr for name in templates())
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["a b", "--", "it's", "Ä"])
def test_the_commands_that_it_prints_find_the_folder(tmp_path, name):
    done = init(tmp_path, "--", name)
    assert done.returncode == 0
    build = done.stderr.splitlines()[-2]
    shown = build.replace("tungsten build", "ls", 1)
    listed = subprocess.run(["sh", "-c", shown], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert listed.stdout == "tungsten_model.py\n"


def test_the_hint_of_a_refusal_works(tmp_path):
    init(tmp_path, "my model")
    done = init(tmp_path, "my model", "-t", "image")
    assert (done.returncode, done.stdout) == (1, "")
    line = done.stderr.partition("`tungsten ")[2].partition("`")[0]
    again = subprocess.run(
        f"{sys.executable} -m tungstenkit {line}", shell=True, cwd=tmp_path, capture_output=True
    )
    assert again.returncode == 0
    assert (tmp_path / "my model-2" / "example.png").is_file()


@pytest.mark.parametrize(
    ("file", "said"),
    [("requirements.txt", 'python_packages=["-r requirements.txt"]'), ("uv.lock", '"-c uv.lock"')],
)
def test_whoever_has_code_is_told_how_it_goes_on(tmp_path, file, said):
    (tmp_path / "mine.py").touch()
    (tmp_path / file).touch()
    done = init(tmp_path)
    first, second, *_ = done.stderr.splitlines()
    assert first.startswith("mine.py will be in the image, too: import it in tungsten_model.py")
    assert said in second
