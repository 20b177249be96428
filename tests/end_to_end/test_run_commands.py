"""`tungsten serve`, `demo` and `predict`, as a user calls them: in this Python, and in a container."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.harness import (
    TUNGSTEN,
    container_arguments,
    free_port,
    remove_images,
    succeed,
    tungsten,
)
from tests.end_to_end.targets import served
from tests.machine import needs
from tests.server.conftest import wait_until


@pytest.fixture
def run(surface, kind):
    """Options that run the model here, and the environment for them."""
    options = ["--local"] if kind == "local" else [f"--engine-arg={one}" for one in container_arguments()]
    return lambda command, *more, **keywords: tungsten(command, surface, *options, *more, **keywords)


def containers(image):
    listed = subprocess.run(
        ["podman", "ps", "--all", "--quiet", f"--filter=ancestor={image}"], capture_output=True, text=True
    )
    return listed.stdout.split()


class TestPredict:
    def test_an_output_is_json_and_its_files_are_saved(self, run, surface, kind, tmp_path):
        (tmp_path / "in.bin").write_bytes(bytes(range(256)))
        done = run(
            "predict", "-i", "do=a=b c", "-i", "scale=2", "-i", f"file={tmp_path}/in.bin", "-o", tmp_path
        )
        assert done.returncode == 0, done.stderr
        output = json.loads(done.stdout)
        assert (output["did"], output["scales"]) == ("a=b c", [2.0])
        assert output["file"] == str(tmp_path / "file.bin")
        assert (tmp_path / "file.bin").read_bytes() == bytes(range(256))
        if kind == "container":
            assert containers(surface) == []

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (["scale=2"], "error: do: the field is required"),
            (["do=x", "scale=many"], "error: scale: "),
            (["do=x", "mode=other"], "error: mode: "),
            (["do=x", "file=/no/such", "unknown=1"], "unknown: the model has no such input"),
        ],
    )
    def test_what_fails_is_one_error_and_status_1(self, run, inputs, message, tmp_path):
        done = run("predict", *(f"-i{text}" for text in inputs), "-o", tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert "starting the model" not in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_names_the_models_file_and_line(self, run, tmp_path):
        done = run("predict", "-i", "do=raise it", "-o", tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "error: the prediction failed: ValueError: it\n" in done.stderr
        lines = done.stderr.splitlines()
        where = next(line for line in lines if line.startswith("  in:   tungsten_model.py, line "))
        source = (Path(__file__).parent / "surface_model" / "tungsten_model.py").read_text().splitlines()
        assert "raise ValueError" in source[int(where.rpartition(" ")[2]) - 1]
        assert "tungsten_server" not in done.stderr

    def test_a_demo_shows_what_it_prints(self, run, tmp_path):
        done = run("predict", "--demo", "-i", "do=one", "-o", tmp_path)
        answer = json.loads(done.stdout)
        assert answer["output"]["did"] == "one"
        assert answer["demo_output"] == {"shown": "one", "items": [{"name": "one", "length": 3}]}
        assert "demo of 1\n" in done.stderr

    def test_a_model_that_cant_be_set_up_is_told_with_its_own_words(self, run, kind):
        options = [] if kind == "local" else ["--engine-arg=--env=SURFACE_SETUP"]
        done = run("predict", *options, "-i", "do=x", env={"SURFACE_SETUP": "fail"})
        assert done.returncode == 1
        assert "error: setup fails: OSError: no weights\n" in done.stderr
        assert done.stderr.count("no weights") == 2  # once more in the line of the traceback
        assert "\n  in:   tungsten_model.py, line " in done.stderr


class TestPredictOnAServer:
    @pytest.fixture
    def server(self, surface, tmp_path):
        with served(surface, tmp_path) as server:
            yield server.wait_ready()

    def test_it_is_asked_and_goes_on(self, server, tmp_path):
        for _ in range(2):
            answer = json.loads(succeed("predict", server.url, "-i", "do=x", "-o", tmp_path))
            assert answer["did"] == "x"
        assert (tmp_path / "file.1.txt").exists() or (tmp_path / "file.1.bin").exists()

    def test_an_interrupt_cancels_there(self, server):
        process = subprocess.Popen(
            [*TUNGSTEN, "predict", server.url, "-i", "do=sleep 100"], stderr=subprocess.DEVNULL
        )
        running = "tungsten_predictions_pending 1.0"
        wait_until(lambda: running in server.get("/metrics").text, "the prediction")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
        wait_until(lambda: running not in server.get("/metrics").text, "its end")

    def test_one_that_is_not_ready_says_when_to_try_again(self, surface, tmp_path):
        with served(surface, tmp_path, SURFACE_SETUP="wait") as server, server.setup.open():
            done = tungsten("predict", server.url, "-i", "do=x")
        assert done.returncode == 1
        assert "the server refuses: 503 " in done.stderr
        assert "the model is being set up" in done.stderr
        assert "hint: try again in " in done.stderr

    def test_a_server_of_something_else_is_said_so(self, server):
        done = tungsten("predict", f"{server.url}/docs", "-i", "do=x")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-2].startswith("error: ")


class TestServe:
    @pytest.mark.parametrize(("command", "page"), [("serve", ""), ("demo", "/demo")])
    def test_it_says_where_it_is_once_it_is_ready_and_ends_with_status_0(self, surface, kind, command, page):
        options = ["--local"] if kind == "local" else [f"--engine-arg={one}" for one in container_arguments()]
        port = free_port()
        process = subprocess.Popen(
            [*TUNGSTEN, command, str(surface), *options, "-p", str(port), "--batch-size", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == f"http://127.0.0.1:{port}{page}\n"
        done = tungsten("predict", f"http://127.0.0.1:{port}", "-i", "do=x", "-o", os.devnull + "/none")
        assert "can't be saved" in done.stderr
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=30)[1]
        assert process.returncode == 0, log
        assert "batch_size=2" in log
        assert "stopping: " in log
        if kind == "container":
            assert containers(surface) == []

    def test_a_second_interrupt_ends_it_at_once(self, surface, kind, tmp_path):
        with served(surface, tmp_path) as server:
            server.wait_ready()
            server.begin("sleep 100")
            server.process.send_signal(signal.SIGINT)
            server.wait_for_log("answering what was accepted")
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(20) == 130
        if kind == "container":
            assert containers(surface) == []

    def test_a_taken_port_is_told_before_anything_starts(self, run):
        with socket.create_server(("127.0.0.1", 0)) as other:
            done = run("serve", "-p", str(other.getsockname()[1]))
        assert done.returncode == 1
        assert "can't listen there: " in done.stderr

    def test_what_can_never_fit_is_told(self, surface_model, tmp_path):
        folder = surface_model(tmp_path / "model")
        source = folder / "tungsten_model.py"
        source.write_text(source.read_text().replace("mem_gb=0.5", "mem_gb=1000000"))
        done = tungsten("predict", folder, "--local", "-i", "do=x", "-o", tmp_path)
        assert "warning: the machine has" in done.stderr
        assert json.loads(done.stdout)["did"] == "x"

    def test_a_setup_that_fails_is_told_once(self, run, kind):
        options = [] if kind == "local" else ["--engine-arg=--env=SURFACE_SETUP"]
        done = run("serve", "-p", "0", *options, env={"SURFACE_SETUP": "fail"})
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("Traceback") == 1
        assert "\nerror: setup fails: OSError: no weights\n  in:   tungsten_model.py, line " in done.stderr

    def test_the_servers_own_refusal_is_passed_on(self, run):
        done = run("serve", "-p", "0", env={"TUNGSTEN_MAX_PENDING": "none"})
        assert done.returncode == 2
        assert "TUNGSTEN_MAX_PENDING is not a whole number" in done.stderr
        assert done.stderr.count("error: ") == 1


def test_a_folder_is_built_and_run(surface_model, tmp_path):
    """From its lock to an answer, in one command."""
    folder = surface_model(tmp_path / f"built-{os.getpid()}")
    image = f"localhost/{folder.name}:latest"
    options = [f"--engine-arg={one}" for one in container_arguments()]
    try:
        done = tungsten("predict", folder, *options, "-i", "do=x", "-o", tmp_path)
        assert json.loads(done.stdout)["did"] == "x", done.stderr
        assert "building layer-model" in done.stderr or "loading into podman" in done.stderr
    finally:
        remove_images(image)


def test_an_input_that_is_none_is_told_before_a_folder_is_built(surface_model, tmp_path):
    folder = surface_model(tmp_path / "model")
    done = tungsten("predict", folder, "-i", "do", "-o", tmp_path)
    assert done.returncode == 1
    assert "NAME=VALUE" in done.stderr
    assert "building" not in done.stderr
    assert not (folder / ".tungsten").exists()


@needs("podman")
def test_an_unknown_image_says_how_to_make_one():
    done = tungsten("serve", "no-such-image")
    assert done.returncode == 1
    assert "has no image 'no-such-image'" in done.stderr
    assert "tungsten build" in done.stderr
