"""The life of the whole server: start, ready, stop; and how requests of many clients are batched."""

import errno
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from tungsten_server import launch
from tungsten_server.words.settings import Settings

from tests.server.conftest import DEADLINE, MODEL, SERVER, SPEC, Gate, Server, wait_until, write_model

SLOW_SETUP = MODEL.replace('print("printed by setup")', 'open("go").close()')


def started(command, **arguments):
    return subprocess.run(
        [sys.executable, "-m", "tungsten_server", *command],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, "PYTHONPATH": SERVER},
        **arguments,
    )


class TestBatching:
    def test_order_is_kept_in_a_request_of_many_batches(self, server):
        todo = [f"number {n}" for n in range(50)]
        outputs = server.predict(*todo)["outputs"]
        assert [output["did"] for output in outputs] == todo
        assert {len(output["batch"]) for output in outputs} == {4, 2}

    def test_batches_form_across_requests_and_options_stay_apart(self, server, pool, gate):
        blocked = pool.submit(server.predict, f"block {gate}")
        with gate.open():
            waiting = [pool.submit(server.predict, f"{n}", scale=float(n % 2)) for n in range(32)]
            server.get("/healthz")
        assert blocked.result()["status"] == "success"
        outputs = [request.result()["outputs"][0] for request in waiting]
        assert [output["did"] for output in outputs] == [str(n) for n in range(32)]
        assert max(len(output["batch"]) for output in outputs) > 1
        assert all(len(set(output["scales"])) == 1 for output in outputs)
        assert all(len(output["batch"]) <= 4 for output in outputs)

    def test_the_operator_may_lower_the_batch_size(self, start_server):
        with start_server(TUNGSTEN_MAX_BATCH_SIZE="2") as server:
            assert [len(o["batch"]) for o in server.predict("a", "b", "c")["outputs"]] == [2, 2, 1]


class TestStart:
    def test_it_answers_503_while_setup_runs_and_then_predicts(self, start_server, tmp_path):
        (tmp_path / "model").mkdir()
        go = Gate(tmp_path / "model" / "go")
        with start_server(model=SLOW_SETUP, ready=False) as server:
            assert server.get("/healthz").status_code == 200
            assert server.get("/").json()["name"] == "test-model"
            readiness = server.get("/readyz")
            assert (readiness.status_code, readiness.json()["reason"]) == (503, "the model is being set up")
            response = server.post([{"do": "x"}])
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            assert response.json() == {"detail": "the model is being set up"}
            with go.open():
                server.wait_ready()
            assert server.predict("x")["status"] == "success"

    def test_without_a_host_it_answers_on_ipv4_and_ipv6(self, tmp_path):
        if not socket.has_dualstack_ipv6():
            pytest.skip("needs IPv6")
        spec = write_model(tmp_path / "model")
        flags = [
            "--spec",
            spec,
            "--model-dir",
            tmp_path / "model",
            "--model-python",
            sys.executable,
            "--port",
            "0",
        ]
        log = tmp_path / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tungsten_server", *flags],
                stderr=file,
                env={**os.environ, "PYTHONPATH": SERVER},
            )
        try:
            port = Server(process, log).port
            for address in ("127.0.0.1", "[::1]"):
                assert requests.get(f"http://{address}:{port}/healthz", timeout=DEADLINE).status_code == 200
        finally:
            process.kill()
            process.wait()

    def test_without_ipv6_it_answers_on_ipv4(self, monkeypatch):
        create = socket.create_server

        def without_ipv6(address, **options):
            if options["family"] == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "no IPv6")
            return create(address, **options)

        monkeypatch.setattr(socket, "create_server", without_ipv6)
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
        with launch._listen(Settings(Path("spec.json"), port=0)) as listener:
            assert listener.getsockname()[0] == "0.0.0.0"

    def test_one_server_takes_anothers_place_when_it_is_told_to(self, tmp_path, pool):
        spec = write_model(tmp_path / "model", SLOW_SETUP)
        go = Gate(tmp_path / "model" / "go")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            ours, theirs = socket.socketpair()
            flags = ["--spec", spec, "--model-dir", tmp_path / "model", "--model-python", sys.executable]
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tungsten_server", *flags),
                    *("--listen-fd", str(listener.fileno()), "--handover-fd", str(theirs.fileno())),
                ],
                pass_fds=[listener.fileno(), theirs.fileno()],
                env={**os.environ, "PYTHONPATH": SERVER},
            )
            theirs.close()
        try:
            with ours:
                ours.settimeout(DEADLINE)
                early = pool.submit(requests.post, f"{url}/predict", json=[{"do": "x"}], timeout=DEADLINE)
                with go.open():
                    pass
                assert ours.recv(100) == b"ready\n"
                assert not early.done()
                ours.sendall(b"!")
                assert early.result().json()["status"] == "success"
                process.terminate()
                assert ours.recv(100) == b""
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
            process.wait()

    def test_what_is_no_socket_is_refused(self, tmp_path):
        spec = write_model(tmp_path / "model")
        flags = ["--spec", spec, "--model-dir", tmp_path / "model", "--model-python", sys.executable]
        done = started([*flags, "--listen-fd", "0"], stdin=subprocess.DEVNULL)
        assert done.returncode == 2
        assert "error: can't listen: " in done.stderr
        assert "--listen-fd" in done.stderr

    def test_the_http_process_imports_neither_model_nor_sdk_nor_pydantic(self):
        program = """
import sys
import tungsten_server.launch, tungsten_server.http.app, tungsten_server.http.serving
foreign = {"pydantic", "pydantic_core", "tungstenkit", "PIL", "numpy"} & set(sys.modules)
assert not foreign, foreign
"""
        subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": SERVER})

    def test_five_failed_setups_end_it_with_the_cause(self, start_server):
        model = MODEL.replace('print("printed by setup")', 'raise OSError("no weights")')
        with start_server(model=model, ready=False) as server:
            server.wait_for_log(r"setup failed \(1 of 5\)")
            readiness = server.get("/readyz")
            assert readiness.status_code == 503
            assert "OSError: no weights" in readiness.json()["reason"]
            assert server.process.wait(DEADLINE) == 1
            assert len(server.log_file.read_text().split("setup failed (")) == 6
            assert server.logged("setup failed 5 times in a row: OSError: no weights")
            assert server.log_file.read_text().count("Traceback") == 1

    def test_each_reason_of_failed_setups_has_its_traceback(self, start_server, tmp_path):
        failing = f"""
        with open({str(tmp_path / "tries")!r}, "a") as file:
            file.write("x")
            count = file.tell()
        raise OSError(f"try {{count // 2}}")
"""
        model = MODEL.replace('print("printed by setup")', failing.strip())
        with start_server(model=model, ready=False, TUNGSTEN_MAX_SETUPS="3") as server:
            assert server.process.wait(DEADLINE) == 1
            text = server.log_file.read_text()
        assert [line for line in text.splitlines() if line.startswith("OSError")] == [
            "OSError: try 0",
            "OSError: try 1",
        ]
        assert "setup failed 3 times in a row: OSError: try 1" in text

    def test_a_setup_above_its_time_counts_as_failed(self, start_server):
        model = MODEL.replace('print("printed by setup")', "time.sleep(1000)")
        with start_server(model=model, ready=False, SETUP_TIMEOUT="0.5") as server:
            server.wait_for_log(r"setup failed \(1 of 5\): setup took longer than 0.5 seconds")

    def test_bad_settings_are_told_in_one_shape_with_status_2(self):
        result = started(["--port", "none"])
        assert result.returncode == 2
        assert result.stderr.startswith("error: --spec is missing\n       --port is not a port")
        assert "\n  in:   " in result.stderr
        assert "\n  hint: " in result.stderr

    @pytest.mark.parametrize(
        ("change", "named"),
        [({"spec-version": 9}, "spec-version is 9"), ({"input-schema": {"type": "objekt"}}, "input-schema")],
    )
    def test_a_bad_spec_is_told_with_status_2(self, tmp_path, change, named):
        spec = write_model(tmp_path / "model", spec={**SPEC, **change})
        flags = ["--spec", spec, "--model-dir", tmp_path / "model", "--model-python", sys.executable]
        result = started([*flags, "--port", "0", "--host", "127.0.0.1"])
        assert result.returncode == 2
        assert f"error: {named}" in result.stderr
        assert "Traceback" not in result.stderr

    def test_a_port_in_use_is_told_with_status_2(self, tmp_path):
        spec = write_model(tmp_path / "model")
        flags = ["--spec", spec, "--model-dir", tmp_path / "model", "--model-python", sys.executable]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            result = started([*flags, "--host", "127.0.0.1", "--port", str(taken.getsockname()[1])])
        assert result.returncode == 2
        assert "error: can't listen: " in result.stderr


def test_an_idle_server_has_few_threads_whatever_it_may_have(start_server):
    with start_server("--max-pending", "10000") as server:
        assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) < 12


class TestOverload:
    def test_predictions_above_the_limit_are_503_and_health_is_still_answered(self, start_server, pool, gate):
        with start_server("--max-pending", "2") as server:
            blocked = pool.submit(server.predict, f"block {gate}")
            with gate.open():
                flood = [pool.submit(server.post, [{"do": "x"}]) for _ in range(20)]
                assert server.get("/healthz").status_code == 200
                wait_until(lambda: sum(f.done() for f in flood) == 19, "19 refusals")
                refused = [f.result() for f in flood if f.done()]
            assert {response.status_code for response in refused} == {503}
            assert all(int(response.headers["Retry-After"]) > 0 for response in refused)
            assert blocked.result()["status"] == "success"
            assert min(f.result().status_code for f in flood) == 200
            assert server.predict("x")["status"] == "success"

    def test_bodies_that_arrive_are_bounded_together(self, start_server):
        def connect():
            return sockets.enter_context(socket.create_connection(("127.0.0.1", server.port), DEADLINE))

        def begin(size):
            sock = connect()
            head = f"POST /predict HTTP/1.1\r\nHost: [::1]\r\nExpect: 100-continue\r\nContent-Length: {size}\r\n\r\n"
            sock.sendall(head.encode())
            return sock, sock.recv(1000)

        with start_server(TUNGSTEN_MAX_WAITING_BYTES="1000000") as server, ExitStack() as sockets:
            first, answer = begin(700_000)
            assert answer.startswith(b"HTTP/1.1 100 ")
            _, answer = begin(700_000)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert answer.endswith(b'{"detail":"too many bytes are arriving"}')
            assert server.predict("x" * 60_000)["status"] == "success"
            chunked = connect()
            chunked.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            chunked.sendall(b"493E0\r\n" + b" " * 0x493E0)  # with the first, all that may arrive
            chunked.sendall(b"\r\n3E8\r\n" + b" " * 1000)
            assert chunked.recv(1000).startswith(b"HTTP/1.1 503 ")
            # A client that leaves makes room, and so does an answer.
            first.close()
            for _ in range(2):
                wait_until(lambda: server.post([{"do": "x" * 900_000}]).status_code == 200, "room")


class TestStop:
    @pytest.mark.parametrize("signum", [2, 15])
    def test_everything_accepted_is_answered(self, start_server, pool, gate, signum):
        with start_server() as server:
            pid = server.model_pid()
            idle = requests.Session()
            idle.get(server.url + "/healthz")
            blocked = pool.submit(server.predict, f"block {gate}")
            half = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
            half.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n[{")
            with gate.open():
                waiting = [pool.submit(server.post, [{"do": str(n)}] * 3) for n in range(40)]
                accepted = "tungsten_predictions_pending 41.0"
                wait_until(lambda: accepted in server.get("/metrics").text, "40 requests")
                server.process.send_signal(signum)
                server.wait_for_log("stop: ")
                with pytest.raises(requests.ConnectionError):
                    server.get("/healthz")
                half.sendall(b'"do":"x"}]')
            assert blocked.result()["status"] == "success"
            for response in (request.result() for request in waiting):
                assert response.json()["status"] == "success"
                assert response.headers["Connection"] == "close"
            with half, half.makefile("rb") as stream:
                assert b'"status":"success"' in stream.read()
            assert server.process.wait(DEADLINE) == 0
            assert server.logged("unanswered=0")
            assert not Path(f"/proc/{pid}").exists()
            idle.close()

    def test_what_cannot_be_answered_in_time_is_failed_and_bounds_the_stop(self, start_server, pool, gate):
        with start_server("--stop-timeout", "0.5") as server:
            blocked = pool.submit(server.predict, f"block {gate}")
            stalled = socket.create_connection(("127.0.0.1", server.port))
            stalled.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n[{")
            with gate.open():
                assert server.end() == 0
            assert blocked.result()["error_message"] == "the server is stopping"
            stalled.close()

    def test_a_stop_during_setup_does_not_wait_for_it(self, start_server, tmp_path):
        (tmp_path / "model").mkdir()
        Gate(tmp_path / "model" / "go")
        with start_server("--stop-timeout", "1000", model=SLOW_SETUP, ready=False) as server:
            server.get("/healthz")
            assert server.end() == 0

    def test_a_model_that_will_not_leave_is_killed(self, start_server):
        model = MODEL.replace(
            'print("printed by setup")',
            "import threading; threading.Thread(target=time.sleep, args=(1000,)).start()",
        )
        with start_server(model=model) as server:
            pid = server.model_pid()
            assert server.end() == 0
            assert not Path(f"/proc/{pid}").exists()

    def test_the_model_process_dies_with_a_server_that_is_killed(self, start_server, pool, gate):
        with start_server() as server:
            pid = server.model_pid()
            blocked = pool.submit(server.predict, f"block {gate}")
            with gate.open():
                server.end(9)
                wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the model process")
            assert isinstance(blocked.exception(), requests.ConnectionError)


def test_a_model_process_that_is_killed_leaves_no_files_behind(start_server, tmp_path, gate):
    model = MODEL.replace("outputs += self.run", "i.picture.path; outputs += self.run")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with start_server(model=model, TMPDIR=str(temporary)) as server:
        # One that is called again and again has its files in the same place.
        assert server.predict("x", picture="data:,a")["status"] == "success"
        path = server.begin(f"block {gate}", picture="data:,a")
        with gate.open():
            assert [file.read_bytes() for file in temporary.rglob("*") if file.is_file()] == [b"a"]
            os.kill(server.model_pid(), 9)
            assert server.ended(path)["status"] == "failed"
        server.wait_ready()
        assert list(temporary.iterdir()) == []


class TestWorkers:
    def test_batches_run_at_the_same_time_in_processes_of_their_own(self, start_server, tmp_path):
        gates = [Gate(tmp_path / name) for name in ("one", "two")]
        with start_server("--workers", "2") as server:
            wait_until(lambda: len(server.model_pids()) == 2, "two model processes")
            blocked = [server.begin(f"block {gate}", scale=float(n)) for n, gate in enumerate(gates)]
            with gates[0].open(), gates[1].open():  # both wait at their gates: both run
                assert [server.get(path).json()["status"] for path in blocked] == ["running"] * 2
            assert {server.ended(path)["status"] for path in blocked} == {"success"}

    def test_one_that_dies_leaves_the_others_at_work(self, start_server):
        with start_server(TUNGSTEN_WORKERS="2") as server:
            pids = wait_until(lambda: len(server.model_pids()) == 2 and server.model_pids(), "two processes")
            os.kill(pids[0], 9)
            server.wait_for_log("restart of the model process")
            assert server.get("/readyz").status_code == 200
            assert {server.predict("x")["status"] for _ in range(20)} == {"success"}
            wait_until(lambda: len(server.model_pids()) == 3, "a replacement")
            assert server.end() == 0
            assert not any(Path(f"/proc/{pid}").exists() for pid in server.model_pids())
