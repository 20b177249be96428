"""How servers are started: what an engine is told, what this Python must have, and the end of a process."""

import os
import signal
import socket
import sys
from dataclasses import replace

import pytest

from tungstenkit.data import SERVER
from tungstenkit.machine import Needs
from tungstenkit.run import run
from tungstenkit.run.client import PredictionError
from tungstenkit.run.run import (
    Address,
    Handover,
    Program,
    container,
    image_input_schema,
    image_needs,
    local,
    running,
)
from tungstenkit.sdk.errors import RunError

HERE = Address("127.0.0.1", 4000)

SETUP_FAILED = f"""\
T ERROR tungsten.worker: setup failed: ModuleNotFoundError: No module named 'git'
Traceback (most recent call last):
  File "{SERVER}/worker/main.py", line 119, in main
    model = _Model(arguments)
            ^^^^^^^^^^^^^^^^^
  File "/models/m/parts/net.py", line 7, in load
    import git
ModuleNotFoundError: No module named 'git'
T ERROR tungsten.model: setup failed (1 of 1): ModuleNotFoundError: No module named 'git'
T ERROR tungsten.server: setup failed: ModuleNotFoundError: No module named 'git'"""


class TestAddress:
    def test_zero_takes_a_free_port(self):
        address = Address.choose("127.0.0.1", 0)
        assert address.port > 0
        assert address.url == f"http://127.0.0.1:{address.port}"

    def test_a_name_is_resolved(self):
        assert Address.choose("localhost", 0).host in ("127.0.0.1", "::1")

    @pytest.mark.parametrize(
        ("host", "url"),
        [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("::1", "http://[::1]:1")],
    )
    def test_clients_here_reach_all_addresses_by_loopback(self, host, url):
        assert Address(host, 1).url == url

    def test_a_taken_port_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(RunError) as caught:
            Address.choose("127.0.0.1", other.getsockname()[1])
        assert "in use" in caught.value.what
        assert "-p 0" in caught.value.hint

    def test_an_address_of_another_machine_is_refused(self):
        with pytest.raises(RunError, match="can't listen there"):
            Address.choose("192.0.2.1", 0)


class TestContainer:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch):
        for name in list(os.environ):
            if run._SETTINGS.fullmatch(name):
                monkeypatch.delenv(name)

    def told(self, *flags, engine="podman", gpus=None, address=HERE, engine_args=()):
        """The command, without its beginning and the container's random name."""
        program = container(engine, "image", address, flags, gpus=gpus, engine_args=engine_args)
        assert program.command[:4] == [engine, "run", "--rm", "--pull=never"]
        name = program.command[4].removeprefix("--name=")
        assert name in program.kill
        return program.command[5:]

    def test_only_loopback_reaches_it(self):
        assert self.told("--workers", "2") == [
            *("--publish", "127.0.0.1:4000:4000", "--env=TUNGSTEN_ALLOW_HOST=localhost"),
            "--env=TUNGSTEN_MAX_SETUPS",
            *("image", "--port", "4000", "--workers", "2"),
        ]

    def test_what_other_machines_reach_they_may_call_as_they_like(self):
        assert "TUNGSTEN_ALLOW_HOST" not in " ".join(self.told(address=Address("0.0.0.0", 4000)))

    def test_ipv6(self):
        assert self.told(address=Address("::1", 4000))[1] == "[::1]:4000:4000"

    @pytest.mark.parametrize("option", [["--network=host"], ["--net", "host"]])
    def test_on_the_hosts_network_the_server_itself_keeps_to_the_address(self, option):
        assert self.told(engine_args=option) == [
            "--env=TUNGSTEN_MAX_SETUPS",
            *option,
            *("image", "--port", "4000", "--host", "127.0.0.1"),
        ]

    def test_the_servers_settings_are_passed_by_name(self, monkeypatch):
        for name in ("TUNGSTEN_MAX_PENDING", "SETUP_TIMEOUT", "TUNGSTEN_ALLOW_HOST"):
            monkeypatch.setenv(name, "1")
        for name in (
            "TUNGSTEN_MIRROR_PYPI",
            "TUNGSTEN_SHELL",
            "TUNGSTEN_MODEL_PYTHON",
            "TUNGSTEN_ENGINE_ARGS",
            "TUNGSTEN_PORT",
            "TUNGSTEN_HOST",
            "SECRET",
        ):
            monkeypatch.setenv(name, "1")
        passed = [argument for argument in self.told() if argument.startswith("--env")]
        # Of one that is given twice, the last one counts.
        assert passed[1:] == [
            "--env=SETUP_TIMEOUT",
            "--env=TUNGSTEN_ALLOW_HOST",
            "--env=TUNGSTEN_MAX_PENDING",
            "--env=TUNGSTEN_MAX_SETUPS",
        ]

    @pytest.mark.parametrize(("gpus", "value"), [("all", "all"), ("0,2", '"device=0,2"')])
    def test_gpus_of_docker(self, gpus, value):
        told = self.told(engine="docker", gpus=gpus)
        assert told[told.index("--gpus") + 1] == value

    def test_gpus_of_podman_are_cdi_devices(self, tmp_path, monkeypatch):
        (tmp_path / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")
        monkeypatch.setattr(run, "CDI_FOLDERS", [tmp_path])
        told = self.told(gpus="0,2")
        assert [argument for argument in told if "nvidia" in argument] == [
            "--device=nvidia.com/gpu=0",
            "--device=nvidia.com/gpu=2",
        ]

    def test_without_the_toolkit_the_remedy_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(run, "CDI_FOLDERS", [tmp_path])
        with pytest.raises(RunError) as caught:
            self.told(gpus="all")
        assert "nvidia-ctk cdi generate" in caught.value.hint
        assert "--no-gpu" in caught.value.hint


class TestImage:
    @pytest.fixture
    def engine(self, tmp_path):
        """A program that answers as an engine's `image inspect` does."""

        def engine(script):
            path = tmp_path / "podman"
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            return str(path)

        return engine

    def test_its_labels_say_what_it_needs(self, engine):
        labels = '{"device": "gpu", "gpu_mem_gb": "24", "mem_gb": "1.500000"}'
        assert image_needs(engine(f"echo '{labels}'"), "x") == Needs(1.5, True, 24.0)

    def test_one_that_is_not_there_is_an_error(self, engine):
        with pytest.raises(RunError, match="no image 'x'"):
            image_needs(engine("echo not known >&2; exit 1"), "x")

    @pytest.mark.parametrize("labels", ["null", "{}", '{"mem_gb": "much", "device": "cpu"}'])
    def test_one_that_is_not_ours_is_an_error(self, engine, labels):
        with pytest.raises(RunError, match="not one that tungsten has built"):
            image_needs(engine(f"echo '{labels}'"), "x")

    FAKE = """
echo "$@" >> {log}
case $1 in
  create) {create} ;;
  cp) tar --create --directory={folder} spec.json ;;
  start|run) exit 1 ;;
esac
"""

    @pytest.fixture
    def image(self, engine, tmp_path):
        """An engine with an image; what it was told is in a log."""

        def image(spec, create="true"):
            (tmp_path / "image").mkdir()
            (tmp_path / "image" / "spec.json").write_text(spec)
            return engine(self.FAKE.format(log=tmp_path / "log", folder=tmp_path / "image", create=create))

        return image

    def test_what_its_model_takes_is_read_and_nothing_is_started(self, image, tmp_path):
        podman = image('{"input-schema": {"type": "object"}, "of a later version": 1}')
        assert image_input_schema(podman, "x", ["--runtime=runc"]) == {"type": "object"}
        create, cp, rm = (line.split() for line in (tmp_path / "log").read_text().splitlines())
        name = create[2].removeprefix("--name=")
        assert create == ["create", "--pull=never", f"--name={name}", "--runtime=runc", "x"]
        assert cp == ["cp", f"{name}:/opt/tungsten/spec.json", "-"]
        assert rm == ["rm", "--force", name]

    @pytest.mark.parametrize(("spec", "create"), [("{}", "true"), ("no JSON", "true"), ("{}", "exit 125")])
    def test_where_it_cant_be_read_the_server_is_asked(self, image, tmp_path, spec, create):
        assert image_input_schema(image(spec, create), "x") is None
        assert (tmp_path / "log").read_text().splitlines()[-1].startswith("rm --force tungsten-")


class TestLocal:
    class Spec:
        def __init__(self, *packages):
            self.python_packages = list(packages)

        def to_json(self):
            return "{}"

    def start(self, tmp_path, *packages, gpus="all"):
        return local(self.Spec(*packages), tmp_path / "spec.json", tmp_path, HERE, ["--x", "1"], gpus=gpus)

    def test_this_python_serves_and_runs_the_model(self, tmp_path):
        program = self.start(tmp_path, "Pydantic>=2", "nothing; python_version < '3'")
        flags = program.command[program.command.index("--spec") :]
        assert flags == [
            *("--spec", str(tmp_path / "spec.json"), "--model-dir", str(tmp_path)),
            *("--model-python", sys.executable, "--host", "127.0.0.1", "--port", "4000", "--x", "1"),
        ]
        assert (tmp_path / "spec.json").read_text() == "{}"
        assert program.kill is None

    def test_every_missing_package_is_named_with_the_way_to_it(self, tmp_path):
        with pytest.raises(RunError) as caught:
            self.start(tmp_path, "no-such-thing[x]==1", "pydantic<1", "pillow")
        assert "no-such-thing[x]==1 is not installed" in caught.value.what
        assert "pydantic<1 is asked for, and " in caught.value.what
        assert "pillow" not in caught.value.what
        assert caught.value.hint == f"{sys.executable} -m pip install 'no-such-thing[x]==1' 'pydantic<1'"

    def test_what_is_no_requirement_of_a_known_project_is_not_asked_for(self, tmp_path):
        self.start(
            tmp_path,
            "pillow",
            "./lib",
            "-c pillow<1",
            "--extra-index-url https://host.example",
            "--prefer-binary",
        )
        with pytest.raises(RunError, match="egg=no-such-thing is not installed"):
            self.start(tmp_path, "git+https://host.example/foo.git#egg=no-such-thing")

    def test_another_python_runs_the_model_and_is_asked_what_it_has(self, tmp_path, monkeypatch):
        """Its versions count, and what markers mean there; what the shell's Python lacks is not pip's to install."""
        python = tmp_path / "python"
        python.write_text(
            '#!/bin/sh\necho \'{"versions": {"pillow": "1", "six": null}, "environment": {"python_version": "2.0"}}\'\n'
        )
        python.chmod(0o755)
        address, spec = HERE, self.Spec("pillow==1", "six; python_version > '3'")
        program = local(spec, tmp_path / "spec.json", tmp_path, address, [], gpus="all", python=str(python))
        assert program.command[program.command.index("--model-python") + 1] == str(python)
        monkeypatch.setenv("TUNGSTEN_MODEL_PYTHON", str(python))
        with pytest.raises(RunError, match="pillow==2 is asked for, and 1 is installed") as caught:
            local(self.Spec("pillow==2"), tmp_path / "s", tmp_path, HERE, [], gpus="all", python=str(python))
        assert "tungsten lock" in caught.value.hint

    def test_a_python_that_is_none_is_told(self, tmp_path):
        with pytest.raises(RunError, match="can't be run"):
            local(self.Spec(), tmp_path / "s", tmp_path, HERE, [], gpus="all", python=str(tmp_path / "none"))

    def test_a_socket_is_handed_over_in_place_of_the_address(self, tmp_path):
        program = local(
            self.Spec(),
            tmp_path / "s",
            tmp_path,
            HERE,
            [],
            gpus="all",
            handover=Handover(listener=8, control=9),
        )
        assert program.command[-4:] == ["--listen-fd", "8", "--handover-fd", "9"]
        assert "--port" not in program.command
        assert program.inherited == (8, 9)

    @pytest.mark.parametrize(("gpus", "visible"), [(None, ""), ("1", "1")])
    def test_gpus_are_chosen_by_cudas_own_variable(self, tmp_path, gpus, visible):
        assert self.start(tmp_path, gpus=gpus).environment["CUDA_VISIBLE_DEVICES"] == visible


class TestRunning:
    def program(self, script, kill=None):
        return Program([sys.executable, "-c", script], Address.choose("127.0.0.1", 0), {}, kill)

    def test_one_that_ends_is_not_waited_for(self):
        with running(self.program("raise SystemExit(5)")) as server:
            assert not server.wait_until("/readyz")
            assert server.wait() == 5

    def test_what_it_said_at_its_end_is_told(self, tmp_path):
        program = self.program("raise SystemExit('no weights')")
        with running(program, tmp_path / "log") as server, pytest.raises(RunError) as caught:
            server.expect("/readyz")
        assert caught.value.what.endswith("it said:\nno weights")
        assert caught.value.hint is None

    def test_the_reason_comes_before_the_rest_of_what_it_said(self, tmp_path):
        lines = [
            "first of all" + "." * run._SAID,
            "T ERROR tungsten.server: no weights",
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
        with running(program, echo=True) as server:
            assert not server.wait_until("/readyz")
            assert server.wait() == 1
            error = server.setup_error()
        assert capfd.readouterr().err == f"{SETUP_FAILED}\n"
        assert error.what == "setup fails: ModuleNotFoundError: No module named 'git'"
        assert error.where == "parts/net.py, line 7"

    def test_a_failed_prediction_names_the_models_line(self, tmp_path):
        program = replace(self.program(f"raise SystemExit({SETUP_FAILED!r})"), folder="/models/m")
        failed = PredictionError("the prediction failed: ModuleNotFoundError: No module named 'git'")
        with running(program, tmp_path / "log") as server:
            server.wait()
            error = server.prediction_error(failed)
        assert error.what.startswith(f"{failed.what}\nTraceback")
        assert error.where == "parts/net.py, line 7"
        (tmp_path / "log").write_text("T INFO tungsten.server: stopped")
        assert server.prediction_error(failed) is failed

    def test_somebody_waits_so_that_setup_is_tried_once(self, monkeypatch):
        program = container("podman", "image", HERE, [], gpus=None)
        assert program.environment["TUNGSTEN_MAX_SETUPS"] == "1"
        assert "--env=TUNGSTEN_MAX_SETUPS" in program.command
        monkeypatch.setenv("TUNGSTEN_MAX_SETUPS", "7")
        assert container("podman", "image", HERE, [], gpus=None).environment["TUNGSTEN_MAX_SETUPS"] == "7"

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

    def test_an_engine_that_fails_is_told_as_such(self):
        with running(self.program("raise SystemExit(125)", kill=["true"])) as server:
            with pytest.raises(RunError, match="could not start the container") as caught:
                server.wait()
            assert "--engine-arg" in caught.value.hint
        with running(self.program("raise SystemExit(125)")) as server:
            assert server.wait() == 125

    def test_an_end_by_a_signal_is_told_as_shells_do(self):
        with running(self.program("import os; os.kill(os.getpid(), 9)")) as server:
            assert server.wait() == 128 + 9
