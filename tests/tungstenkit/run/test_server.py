"""A running server: what it says, and its end."""

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tungstenkit.data import SERVER
from tungstenkit.run.address import Address
from tungstenkit.run.client import PredictionError
from tungstenkit.run.container import container_program
from tungstenkit.run.local import LocalModel, local_program
from tungstenkit.run.program import Program
from tungstenkit.run.server import _SAID, running, to_stderr
from tungstenkit.sdk.errors import RunError

HERE = Address("127.0.0.1", 4000)

SETUP_FAILED = f"""\
T ERROR tungsten.worker: [raised] in words that nobody reads: ModuleNotFoundError: No module named 'git'
Traceback (most recent call last):
  File "{SERVER}/worker/main.py", line 119, in main
    model = _Model(arguments)
            ^^^^^^^^^^^^^^^^^
  File "/models/m/parts/net.py", line 7, in load
    import git
ModuleNotFoundError: No module named 'git'
T ERROR tungsten.model: [setup-failed] the first of all: ModuleNotFoundError: No module named 'git'
T ERROR tungsten.server: [gave-up] no hope: ModuleNotFoundError: No module named 'git'"""


class TestRunning:
    def program(self, script, kill=None):
        return Program([sys.executable, "-c", script], Address.choose("127.0.0.1", 0), {}, kill)

    def test_one_that_ends_is_not_waited_for(self):
        with running(self.program("raise SystemExit(5)")) as server:
            assert not server.wait_until("/readyz")
            assert server.wait() == 5

    def test_one_that_gives_no_answer_any_more_has_ended_once_it_is_gone(self, tmp_path):
        """Its port is closed a moment before."""
        os.mkfifo(tmp_path / "gate")
        with running(self.program(f"open({str(tmp_path / 'gate')!r}).read()")) as server:
            with ThreadPoolExecutor(1) as pool:
                ends = pool.submit(server.ends)
                (tmp_path / "gate").open("w").close()
                assert ends.result()
            assert server.ends()

    def test_one_that_answers_has_not_ended(self, monkeypatch, tmp_path):
        os.mkfifo(tmp_path / "gate")
        with running(self.program(f"open({str(tmp_path / 'gate')!r}).read()")) as server:
            monkeypatch.setattr(server.client, "answers", lambda path: path == "/healthz")
            assert not server.ends()

    def test_what_it_said_at_its_end_is_told(self, tmp_path):
        program = self.program("raise SystemExit('no weights')")
        with running(program, tmp_path / "log") as server, pytest.raises(RunError) as caught:
            server.expect("/readyz")
        assert caught.value.what.endswith("it said:\nno weights")
        assert caught.value.hint is None

    def test_the_reason_comes_before_the_rest_of_what_it_said(self, tmp_path):
        lines = [
            "first of all" + "." * _SAID,
            "T ERROR tungsten.server: [gave-up] no weights",
            "T INFO tungsten.server: stopped",
        ]
        with (
            running(self.program(f"raise SystemExit({chr(10).join(lines)!r})"), tmp_path / "log") as server,
            pytest.raises(RunError) as caught,
        ):
            server.expect("/readyz")
        assert caught.value.what.startswith(
            "the model's server ended before it was ready: no weights; it said:\n"
        )
        assert "first of all" not in caught.value.what
        assert caught.value.what.splitlines()[1:] == lines[1:]

    def test_a_failing_setup_is_told_by_the_models_own_lines(self, tmp_path):
        """Once, and not as a hint."""
        program = replace(self.program(f"raise SystemExit({SETUP_FAILED!r})"), folder="/models/m")
        with running(program, tmp_path / "log") as server, pytest.raises(RunError) as caught:
            server.expect("/readyz")
        assert str(caught.value).splitlines() == [
            "error: setup fails: ModuleNotFoundError: No module named 'git'",
            "       Traceback (most recent call last):",
            '         File "/models/m/parts/net.py", line 7, in load',
            "           import git",
            "  in:   parts/net.py, line 7",
            "  hint: add 'gitpython' to python_packages, and run `tungsten lock`",
        ]

    def test_what_is_on_the_terminal_already_is_not_told_again(self, capfd):
        program = replace(self.program(f"raise SystemExit({SETUP_FAILED!r})"), folder="/models/m")
        with running(program, echo=to_stderr) as server:
            assert not server.wait_until("/readyz")
            assert server.wait() == 1
            error = server.setup_error()
        assert capfd.readouterr().err == f"{SETUP_FAILED}\n"
        assert error.what == "setup fails: ModuleNotFoundError: No module named 'git'"
        assert error.where == "parts/net.py, line 7"

    def test_a_failed_prediction_names_the_models_line(self, tmp_path):
        program = replace(self.program(f"raise SystemExit({SETUP_FAILED!r})"), folder="/models/m")
        reason = "ModuleNotFoundError: No module named 'git'"
        failed = PredictionError(f"the prediction failed: {reason}", reason=reason)
        with running(program, tmp_path / "log") as server:
            server.wait()
            error = server.prediction_error(failed)
        assert error.what.startswith(f"{failed.what}\nTraceback")
        assert error.where == "parts/net.py, line 7"
        (tmp_path / "log").write_text("T INFO tungsten.server: stopped")
        assert server.prediction_error(failed) is failed

    def test_somebody_waits_so_that_setup_is_tried_once(self, monkeypatch):
        program = container_program("podman", "image", HERE, [], gpus=None)
        assert program.environment["TUNGSTEN_MAX_SETUPS"] == "1"
        assert "--env=TUNGSTEN_MAX_SETUPS" in program.command
        monkeypatch.setenv("TUNGSTEN_MAX_SETUPS", "7")
        again = container_program("podman", "image", HERE, [], gpus=None)
        assert again.environment["TUNGSTEN_MAX_SETUPS"] == "7"

    def test_a_block_left_early_ends_it(self):
        with (
            pytest.raises(KeyboardInterrupt),
            running(self.program("import time; time.sleep(100)")) as server,
        ):
            raise KeyboardInterrupt
        assert server.wait() == 128 + signal.SIGKILL

    @pytest.mark.parametrize("by", ["us", "others"])
    def test_killed_the_container_is_removed_too(self, tmp_path, by):
        marker = tmp_path / "removed"
        kill = [sys.executable, "-c", f"open({str(marker)!r}, 'w')"]
        with running(self.program("import time; time.sleep(100)", kill)) as server:
            if by == "others":
                os.kill(server._process.pid, signal.SIGKILL)
                server.wait()
        assert marker.exists()

    def test_stop_is_a_sigterm_and_gives_its_status(self, tmp_path):
        ready = tmp_path / "ready"
        os.mkfifo(ready)
        script = (
            "import signal, sys; signal.signal(15, lambda *_: sys.exit(3));"
            f"open({str(ready)!r}, 'w').close(); signal.pause()"
        )
        with running(self.program(script)) as server:
            ready.read_bytes()
            assert server.stop() == 3

    @pytest.mark.parametrize(
        ("said", "hint"),
        [
            (
                "Error: runc: setup: error setting rlimit type 7: operation not permitted: OCI permission denied",
                "--engine-arg=--ulimit=nofile=1024:1024 --engine-arg=--ulimit=nproc=1000:1000",
            ),
            ("Error: netavark: iptables: Operation not permitted", "--engine-arg=--network=host"),
            ("Error: statfs /x: no such file or directory", None),
        ],
    )
    def test_an_engine_that_fails_is_told_as_such_with_what_helps_by_what_it_says(self, tmp_path, said, hint):
        script = f"import sys; print({said!r}, file=sys.stderr); sys.exit(125)"
        with running(self.program(script, kill=["true"]), echo=to_stderr) as server:
            with pytest.raises(RunError, match="could not start the container") as served:
                server.wait()
            assert said not in served.value.what  # it is on the terminal
        with running(self.program(script, kill=["true"]), tmp_path / "log") as server:
            with pytest.raises(RunError, match="could not start the container") as predicted:
                server.expect("/healthz")
            assert said in predicted.value.what
        for caught in (served, predicted):
            assert hint in caught.value.hint if hint else caught.value.hint is None
        with running(self.program(script), tmp_path / "log") as server:
            assert server.wait() == 125

    def test_an_end_by_a_signal_is_told_as_shells_do(self):
        with running(self.program("import os; os.kill(os.getpid(), 9)")) as server:
            assert server.wait() == 128 + 9


class TestServerOfOurs:
    """That what a real server says of its end is understood."""

    MODEL = """
import os
from tungstenkit import BaseIO, define_model

class Io(BaseIO):
    text: str

@define_model(input=Io, output=Io)
class Model:
    def setup(self):
        with open("tried", "a+") as file:
            file.write("x")
            file.seek(0)
            print("attempt", len(file.read()))
        {setup}

    def predict(self, inputs):
        return inputs
"""

    class Spec:
        python_packages = ()

        def to_json(self):
            schema = {"type": "object", "properties": {"text": {"type": "string"}}, "x-order": ["text"]}
            return json.dumps(
                {
                    "spec-version": 1,
                    "name": "m",
                    "module": "tungsten_model",
                    "class": "Model",
                    "batch-size": 1,
                    "input-schema": schema,
                    "output-schema": schema,
                    "demo-output-schema": None,
                }
            )

    def error(self, tmp_path, setup):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "tungsten_model.py").write_text(self.MODEL.format(setup=setup))
        model = LocalModel(self.Spec(), folder, None, sys.executable)
        program = local_program(model, tmp_path / "spec.json", Address.choose("127.0.0.1", 0), [])
        with running(program, tmp_path / "log") as server, pytest.raises(RunError) as caught:
            server.expect("/readyz")
        return caught.value

    def test_a_setup_that_raises_is_told_by_the_models_line(self, tmp_path):
        error = self.error(tmp_path, "raise ValueError('no weights')")
        assert error.what.startswith("setup fails: ValueError: no weights\n")
        assert error.where == "tungsten_model.py, line 15"

    def test_of_setups_that_die_the_reason_is_told_and_what_the_last_one_said(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TUNGSTEN_MAX_SETUPS", "2")
        error = self.error(tmp_path, "os._exit(3)")
        first, *rest = error.what.splitlines()
        assert first.startswith("the model's server ended before it was ready: ")
        assert "exit status 3" in first
        assert "attempt 2" in rest
        assert "attempt 1" not in rest
