"""`tungsten check` on real images: what passes, what is found, and that nothing is left behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.harness import TUNGSTEN, succeed, tungsten

FAULTY = """
import os
import time

import pydantic

from tungstenkit import BaseIO, Field, Image, define_model


class Input(BaseIO):
    text: str
    count: int = Field(ge=0, le=5)
    picture: Image

    @pydantic.field_validator("count")
    @classmethod
    def not_zero(cls, value):
        if value == 0:
            raise ValueError("zero is not allowed")
        return value


class Output(BaseIO):
    text: str
    place: int


@define_model(input=Input, output=Output, batch_size=4, mem_gb=0.1)
class Faulty:
    def setup(self):
        self.big = bytearray(200_000_000)
        assert os.getcwd() == "/app"
        open("/app/here", "w").close()

    def predict(self, inputs):
        for one in inputs:
            if one.text == "":
                os._exit(3)
            if one.count == 5:
                raise RuntimeError("five is too many")
        return [Output(text=one.text, place=place) for place, one in enumerate(inputs)]
"""


def check(folder, *options):
    done = tungsten("check", folder, "--json", *options)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    return report


def failures(report):
    return {trial["what"]: trial for trial in report["trials"] if not trial["ok"]}


def test_a_good_model_passes_and_its_outputs_are_kept(copy_of, tmp_path):
    folder = copy_of("detection")
    report = check(folder, "-o", tmp_path / "results")
    assert failures(report) == {}
    kinds = [trial["kind"] for trial in report["trials"]]
    assert kinds.count("example") == 2
    assert {"valid", "invalid", "broken", "batch"} <= set(kinds)
    assert 10e6 < report["peak_memory"] < 1e9
    kept = json.loads((tmp_path / "results" / "000-example" / "output.json").read_text())
    assert kept[0]["detections"]

    again = check(folder)
    for trial in (*report["trials"], *again["trials"]):
        del trial["seconds"], trial["log"]  # with times in it
    assert again["trials"] == report["trials"]


def test_what_is_wrong_is_found_and_the_rest_is_tried(copy_of):
    folder = copy_of("blur")
    (folder / "tungsten_model.py").write_text(FAULTY)
    report = check(folder)
    found = failures(report)
    assert "model process died" in found["text: empty"]["problem"]
    crash = found["count: the most, 5"]
    assert crash["problem"] == "RuntimeError: five is too many"
    assert 'File "/app/tungsten_model.py"' in crash["log"]
    assert "tungsten_server" not in crash["log"]
    assert crash["inputs"][0]["count"] == 5
    assert all(trial["kind"] == "valid" for trial in found.values())
    notes = {trial["what"]: trial["note"] for trial in report["trials"] if trial["note"]}
    assert "zero is not allowed" in notes["count: the least, 0"]
    assert "place is 0 alone and" in notes["4 inputs together"]
    assert report["too_much_memory"]
    assert not (folder / "here").exists()


def test_a_model_that_can_not_be_set_up_is_told_with_its_traceback(copy_of):
    folder = copy_of("blur")
    (folder / "tungsten_model.py").write_text(FAULTY.replace("self.big =", "self.small = 1 / 0 #"))
    done = tungsten("check", folder)
    assert done.returncode == 1
    assert "error: setup fails: ZeroDivisionError: division by zero\n" in done.stderr
    assert done.stderr.count("Traceback") == 1
    line = FAULTY.splitlines().index("    def setup(self):") + 2
    assert f"\n  in:   tungsten_model.py, line {line}\n" in done.stderr


def test_a_model_for_a_gpu_is_not_called_good_without_one(copy_of):
    folder = copy_of("blur")
    text = (folder / "tungsten_model.py").read_text()
    (folder / "tungsten_model.py").write_text(text.replace("mem_gb=1", "mem_gb=1, gpu=True"))
    succeed("lock", folder)
    # As on a machine without NVIDIA's driver.
    programs = os.pathsep.join(
        path for path in os.environ["PATH"].split(os.pathsep) if not (Path(path) / "nvidia-smi").exists()
    )
    done = tungsten("check", folder, env={"PATH": programs})
    assert (done.returncode, done.stdout) == (4, "")
    assert "NOT TRIED" in done.stderr
    assert failures(check(folder, "--no-gpu")) == {}


def processes_of(folder):
    """Those that know a folder of ours: by their environment, or because something of it is mounted for them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "mountinfo").read_bytes()
        except OSError:
            continue
        if os.fsencode(str(folder)) in known:
            found.append(int(process.name))
    return found


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(copy_of, tmp_path, signum):
    folder = copy_of("blur")
    text = FAULTY.replace("self.big = bytearray(200_000_000)", "time.sleep(1000)")
    (folder / "tungsten_model.py").write_text(text)
    process = subprocess.Popen(
        [*TUNGSTEN, "check", str(folder)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        # The log appears in our own scratch folder once the model is being set up.
        while not any(b"start model" in log.read_bytes() for log in tmp_path.glob("tungsten-*/log")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(processes_of(tmp_path)) > 2
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
