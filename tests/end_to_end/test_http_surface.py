"""The whole HTTP surface, each status and each error, against a server in this Python and against a container.

The container is the one that users run: built from a lock, started by `tungsten serve`. Details that only the server's
code decides are in tests/server; here is what clients rely on.
"""

import base64
import http.client
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.targets import LIMITS, served
from tests.server.conftest import DEADLINE, wait_until

HEX = re.compile(r"[0-9a-f]{32}")
NOTHING_YET = {"outputs": None, "error_message": None}
ROUTES = {
    *("/", "/predict", "/predictions", "/predictions/{}", "/predictions/{}/cancel"),
    *("/demo", "/demo/{}", "/demo/{}/cancel", "/healthz", "/readyz", "/metrics"),
}


@pytest.fixture(scope="module")
def target(surface, tmp_path_factory):
    """One server for all tests that leave it as it was; `target.early` is what it said while `setup` ran."""
    folder = tmp_path_factory.mktemp("served")
    with served(surface, folder, SURFACE_SETUP="wait", **LIMITS) as target:
        with target.setup.open():
            target.early = {
                **{path: target.get(path) for path in ("/", "/healthz", "/readyz", "/openapi.json", "/demo")},
                **{f"POST {path}": target.post([{"do": "x"}], path) for path in POSTS},
            }
        # A model process that is started again must not wait.
        target.setup.path.unlink()
        target.setup.path.touch()
        yield target.wait_ready()


POSTS = ("/predict", "/predictions", "/demo")


@pytest.fixture
def special(surface, tmp_path):
    """A server of the test's own."""
    return lambda **environment: served(surface, tmp_path, **environment)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(32) as pool:
        yield pool


@pytest.fixture
def gate(target, request):
    """A gate on the target, and its name for `wait`."""
    name = f"gate-{abs(hash(request.node.nodeid))}"
    gate = target.gate(name)
    gate.name = name
    return gate


def refused(response, status):
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert "Traceback" not in response.text
    return response.json()["detail"]


def raw_request(target, lines):
    """Send header lines alone; the status and the parsed answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", target.port, timeout=DEADLINE)) as connection:
        connection.connect()
        connection.sock.sendall(b"\r\n".join([*lines, b"", b""]))
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        return response.status, json.loads(response.read())


class TestDescription:
    def test_the_root_gives_name_and_schemas(self, target):
        response = target.get("/")
        assert response.headers["Content-Type"] == "application/json"
        metadata = response.json()
        assert metadata["name"] == "surface"
        assert {"input_schema", "output_schema", "demo_output_schema"} < set(metadata)
        assert metadata["input_schema"]["required"] == ["do"]
        assert metadata["input_schema"]["properties"]["scale"]["maximum"] == 10
        assert metadata["input_schema"]["properties"]["mode"]["choices"] == ["plain", "fancy"]
        assert list(metadata["input_schema"]["properties"]) == ["do", "scale", "mode", "file"]

    def test_a_list_of_objects_is_described_in_place(self, target):
        metadata = target.get("/").json()
        for schema in (metadata["output_schema"], metadata["demo_output_schema"]):
            assert set(schema["properties"]["items"]["items"]["properties"]) == {"name", "length"}
        assert "$ref" not in json.dumps(metadata)

    def test_it_is_alive_and_ready(self, target):
        for path in ("/healthz", "/readyz"):
            assert target.get(path).status_code == 200

    def test_openapi_names_every_route(self, target):
        document = target.get("/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        assert {re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]} >= ROUTES

    def test_pages_for_people(self, target):
        for path in ("/docs", "/demo"):
            page = target.get(path)
            assert page.status_code == 200
            assert page.headers["Content-Type"].startswith("text/html")
        for name in re.findall(r'(?:src|href)="(/?static/[^"]+)"', target.get("/demo").text):
            assert target.get("/" + name.lstrip("/")).status_code == 200

    def test_a_page_of_another_site_sends_nothing_without_asking(self, target):
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            refused = target.post([{"do": "x"}], **headers)
            assert (refused.status_code, "--allow-origins" in refused.json()["detail"]) == (403, True)

    def test_metrics_count_what_happened(self, target):
        target.predict("x")
        families = text_string_to_metric_families(target.get("/metrics").text)
        names = {family.name for family in families}
        assert {"tungsten_http_requests", "tungsten_predictions", "tungsten_batch_inputs"} <= names


class TestPredict:
    def test_an_output_has_every_kind_of_field(self, target):
        file = "data:application/octet-stream;base64,AAEC"
        answer = target.predict("two words", scale=2.0, file=file)
        assert (answer["status"], answer["error_message"]) == ("success", None)
        (output,) = answer["outputs"]
        assert output == {
            "did": "two words",
            "batch": ["two words"],
            "scales": [2.0],
            "number": 1.0,
            "items": [{"name": "two", "length": 3}, {"name": "words", "length": 5}],
            "file": file,
        }

    def test_defaults_fill_in_and_unknown_fields_are_ignored(self, target):
        response = target.post([{"do": "x", "unknown": [1]}])
        assert response.json()["outputs"][0]["scales"] == [1.0]

    def test_order_is_kept_over_many_batches(self, target):
        todo = [f"n{number}" for number in range(30)]
        outputs = target.predict(*todo)["outputs"]
        assert [output["did"] for output in outputs] == todo
        assert max(len(output["batch"]) for output in outputs) == 4

    @pytest.mark.parametrize(
        ("do", "message"),
        [
            ("raise it", "ValueError: it"),
            ("exit 3", "SystemExit: 3"),
            ("none", "InvalidOutput"),
            ("more", "InvalidOutput"),
            ("wrong", "InvalidOutput"),
            ("die 7", ""),
        ],
    )
    def test_a_failure_is_200_and_short(self, target, do, message):
        answer = target.predict(do)
        assert (answer["status"], answer["outputs"]) == ("failed", None)
        assert answer["error_message"].startswith(message)
        assert "Traceback" not in answer["error_message"]
        assert "/app/" not in answer["error_message"]
        target.wait_ready()
        assert target.predict("x")["status"] == "success"

    def test_nan_fails_and_is_named(self, target):
        answer = target.post([{"do": "nan"}]).json()
        assert answer["status"] == "failed"
        assert answer["error_message"] == "InvalidOutput: number: nan is not a finite number"

    @pytest.mark.parametrize("route", ["/predict", "/demo"])
    def test_each_client_gets_its_own_whatever_the_model_keeps(self, target, route):
        def ask(number):
            do = f"kept {number}"
            answer = target.ended(target.begin(do, path=route)) if route == "/demo" else target.predict(do)
            (output,) = answer["outputs"]
            return do, output["did"], base64.b64decode(output["file"].partition(",")[2]).decode()

        with ThreadPoolExecutor(12) as pool:  # no more than may wait
            for answer in pool.map(ask, range(100)):
                assert len(set(answer)) == 1, answer

    def test_one_object_for_two_inputs_of_a_request_fails_and_is_said_so(self, target):
        answer = target.predict("kept a", "kept b")
        assert answer["error_message"].startswith(
            "InvalidOutput: one Output object, changed since it was made"
        )

    def test_of_a_batch_only_the_poisonous_request_fails(self, target, gate, pool):
        blocked = pool.submit(target.predict, f"wait {gate.name}")
        with gate.open():
            # Asynchronous: accepted when they are answered.
            paths = [target.begin(do) for do in ("a", "raise it", "b", "c")]
        assert blocked.result()["status"] == "success"
        assert [target.ended(path)["status"] for path in paths] == ["success", "failed", "success", "success"]


class TestBatches:
    def test_different_options_never_share_one(self, target, gate):
        first = target.begin(f"wait {gate.name}")
        with gate.open():
            paths = [target.begin(f"n{number}", scale=float(number % 2)) for number in range(8)]
        outputs = [target.ended(path)["outputs"][0] for path in paths]
        assert target.ended(first)["status"] == "success"
        assert all(len(set(output["scales"])) == 1 for output in outputs)
        assert {len(output["batch"]) for output in outputs} == {4}

    def test_equal_numbers_are_one_option_however_they_are_written(self, target, gate):
        first = target.begin(f"wait {gate.name}")
        with gate.open():
            bodies = [
                b'[{"do": "a", "scale": 2}]',
                b'[{"scale": 2.0, "do": "b"}]',
                b'[{"do":"c","scale":2e0}]',
            ]
            ids = [target.post(body, "/predictions").json()["prediction_id"] for body in bodies]
        outputs = [target.ended(f"/predictions/{one}")["outputs"][0] for one in ids]
        assert [output["batch"] for output in outputs] == [["a", "b", "c"]] * 3
        target.ended(first)

    def test_demos_and_predictions_never_share_one(self, target, gate):
        first = target.begin(f"wait {gate.name}")
        with gate.open():
            plain, demo = target.begin("plain"), target.begin("demo", path="/demo")
        assert target.ended(plain)["outputs"][0]["batch"] == ["plain"]
        assert target.ended(demo)["outputs"][0]["batch"] == ["demo"]
        target.ended(first)


class TestAsynchronous:
    def test_from_pending_over_running_to_success(self, target, gate):
        running = target.begin(f"wait {gate.name}")
        with gate.open():
            pending = target.begin("x")
            assert target.get(running).json() == {**NOTHING_YET, "status": "running"}
            assert target.get(pending).json() == {**NOTHING_YET, "status": "pending"}
        assert target.ended(pending)["outputs"][0]["did"] == "x"

    @pytest.mark.parametrize(("path", "key"), [("/predictions", "prediction_id"), ("/demo", "demo_id")])
    def test_an_id_is_32_hexadecimal_digits(self, target, path, key):
        answer = target.post([{"do": "x"}], path).json()
        assert list(answer) == [key]
        assert HEX.fullmatch(answer[key])

    def test_a_failure_stays(self, target):
        path = target.begin("raise it")
        expected = {"outputs": None, "status": "failed", "error_message": "ValueError: it"}
        assert target.ended(path) == target.get(path).json() == expected

    @pytest.mark.parametrize("route", ["/predictions", "/demo"])
    def test_an_unknown_id_is_404_and_named(self, target, route):
        for response in (target.get(f"{route}/nobody"), target.post(b"", f"{route}/nobody/cancel")):
            assert refused(response, 404) == "nobody"

    def test_both_routes_know_an_id(self, target):
        demo, plain = target.begin("x", path="/demo"), target.begin("x")
        target.ended(demo), target.ended(plain)
        crossed = target.get(plain.replace("/predictions/", "/demo/")).json()
        assert (crossed["status"], crossed["demo_outputs"], crossed["logs"]) == ("success", None, None)
        assert target.get(demo.replace("/demo/", "/predictions/")).json()["status"] == "success"

    @pytest.mark.parametrize("route", ["/predictions", "/demo"])
    def test_what_runs_is_canceled(self, target, route):
        path = target.begin("sleep 100", path=route)
        wait_until(lambda: target.get(path).json()["status"] == "running", "running")
        target.cancel(path)
        answer = target.ended(path)
        assert (answer["status"], answer["error_message"]) == ("failed", "Canceled")
        assert target.predict("x")["status"] == "success"

    def test_what_waits_is_canceled_and_never_runs(self, target, gate):
        running = target.begin(f"wait {gate.name}")
        with gate.open():
            waiting = target.begin("die 1")
            target.cancel(waiting)
            assert target.get(waiting).json()["error_message"] == "Canceled"
        assert target.ended(running)["status"] == "success"

    def test_what_is_done_is_not_canceled_any_more(self, target):
        path = target.begin("x")
        target.ended(path)
        target.cancel(path)
        assert target.get(path).json()["status"] == "success"


class TestDemo:
    def test_it_has_demo_outputs_and_logs(self, target):
        answer = target.ended(target.begin("one", "two", path="/demo"))
        assert [output["did"] for output in answer["outputs"]] == ["one", "two"]
        assert answer["demo_outputs"][1] == {"shown": "two", "items": [{"name": "two", "length": 3}]}
        assert answer["logs"] == "demo of 2\n"

    def test_logs_are_there_while_it_runs(self, target, gate):
        path = target.begin(f"wait {gate.name}", path="/demo")
        with gate.open():
            wait_until(lambda: target.get(path).json()["logs"] == "demo of 1\n", "the log")
        assert target.ended(path)["status"] == "success"

    def test_a_failure(self, target):
        answer = target.ended(target.begin("raise it", path="/demo"))
        assert (answer["status"], answer["demo_outputs"]) == ("failed", None)
        assert answer["error_message"] == "ValueError: it"


class TestRefusals:
    @pytest.mark.parametrize("route", POSTS)
    @pytest.mark.parametrize(
        ("body", "location"),
        [
            (b"", ["body"]),
            (b"[{", ["body"]),
            (b"\xff\xfe", ["body"]),
            (b"[" * 50_000 + b"]" * 50_000, ["body"]),
            ({"do": "x"}, ["body"]),
            ([], ["body"]),
            ([5], ["body", 0]),
            ([{"do": "x"}, {}], ["body", 1, "do"]),
            ([{"do": 5}], ["body", 0, "do"]),
            ([{"do": None}], ["body", 0, "do"]),
            ([{"do": "x", "scale": "2"}], ["body", 0, "scale"]),
            ([{"do": "x", "scale": 11}], ["body", 0, "scale"]),
            ([{"do": "x", "mode": "other"}], ["body", 0, "mode"]),
            ([{"do": "x", "file": "file:///etc/passwd"}], ["body", 0, "file"]),
            ([{"do": "x", "file": "https://example.invalid/x"}], ["body", 0, "file"]),
            ([{"do": "x", "file": "data:;base64,!"}], ["body", 0, "file"]),
            ([{"do": "x"}] * 65, ["body"]),
        ],
    )
    def test_an_invalid_body_is_422_and_says_where(self, target, route, body, location):
        (detail,) = refused(target.post(body, route), 422)
        assert detail["loc"] == location
        assert detail["msg"]
        assert detail["type"]

    @pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" + b"0" * 5000])
    def test_what_is_no_number_of_json_or_above_every_float_is_refused(self, target, number):
        (detail,) = refused(target.post(b'[{"do": "x", "scale": ' + number + b"}]"), 422)
        assert detail["loc"][0] == "body"

    def test_every_wrong_field_is_named(self, target):
        details = refused(target.post([{"do": 1, "scale": 11}, {"mode": "x"}]), 422)
        assert {tuple(detail["loc"][1:]) for detail in details} >= {(0, "do"), (0, "scale"), (1, "mode")}

    def test_of_equal_names_the_last_counts(self, target):
        answer = target.post(b'[{"do": "first", "do": "last"}]').json()
        assert answer["outputs"][0]["did"] == "last"

    def test_nesting_is_answered(self, target):
        for depth in (50, 150, 5000):
            nested = b"[" * depth + b"]" * depth
            assert target.post(b'[{"do": "x", "u": ' + nested + b"}]").status_code in (200, 422)

    def test_a_wrong_content_type_is_said_so(self, target):
        response = target.post([{"do": "x"}], **{"Content-Type": "text/plain"})
        (detail,) = refused(response, 422)
        assert "text/plain" in detail["msg"]

    def test_a_body_above_the_limit_is_413_before_it_is_sent(self, target):
        lines = [b"POST /predict HTTP/1.1", b"Host: localhost", b"Content-Length: 300001"]
        assert raw_request(target, lines)[0] == 413

    def test_a_body_of_the_limit_is_read(self, target):
        body = b'[{"do": "x"}]'
        assert target.post(body + b" " * (300_000 - len(body))).status_code == 200

    def test_unknown_routes_and_wrong_methods(self, target):
        assert refused(target.get("/nothing"), 404) == "Not Found"
        for method, path, allowed in (("GET", "/predict", "POST"), ("DELETE", "/", "GET")):
            response = requests.request(method, target.url + path, timeout=DEADLINE)
            assert refused(response, 405)
            assert allowed in response.headers["Allow"]

    def test_what_is_not_http_is_400(self, target):
        assert raw_request(target, [b"GET / HTTP/1.1", b"no colon"]) == (400, {"detail": "Bad Request"})

    def test_full_is_503_with_retry_after_and_then_all_is_well(self, target, gate):
        first = target.begin(f"wait {gate.name}")
        with gate.open():
            paths = [target.begin("x") for _ in range(15)]
            for route in POSTS:
                response = target.post([{"do": "x"}], route)
                assert refused(response, 503)
                assert int(response.headers["Retry-After"]) > 0
            assert target.get("/healthz").status_code == target.get("/metrics").status_code == 200
        assert all(target.ended(path)["status"] == "success" for path in [first, *paths])
        assert target.predict("x")["status"] == "success"


class TestForms:
    @pytest.mark.parametrize("route", POSTS)
    def test_a_file_and_texts_that_the_schema_types(self, target, route):
        content = bytes(range(256))
        response = target.post_form(route, do="5", scale="2.5", file=("x.bin", content, "application/x-test"))
        assert response.status_code == 200
        answer = response.json()
        if route != "/predict":
            (value,) = answer.values()
            answer = target.ended(f"{route}/{value}")
        (output,) = answer["outputs"]
        assert (output["did"], output["scales"]) == ("5", [2.5])
        media_type, _, data = output["file"].partition(";base64,")
        assert media_type == "data:application/x-test;name=file.bin"
        assert base64.b64decode(data) == content

    def test_a_text_that_is_no_number_is_422(self, target):
        (detail,) = refused(target.post_form(do="x", scale="many"), 422)
        assert detail["loc"] == ["body", 0, "scale"]

    def test_a_field_given_twice_is_422(self, target):
        parts = [("do", (None, "a")), ("do", (None, "b"))]
        response = requests.post(f"{target.url}/predict", files=parts, timeout=DEADLINE)
        (detail,) = refused(response, 422)
        assert detail["loc"] == ["body", 0, "do"]


class TestLife:
    def test_while_setup_runs_it_describes_itself_and_refuses_work(self, target):
        for path in ("/", "/healthz", "/openapi.json", "/demo"):
            assert target.early[path].status_code == 200
        assert target.early["/readyz"].status_code == 503
        assert target.early["/readyz"].json()["reason"]
        for path in POSTS:
            assert refused(target.early[f"POST {path}"], 503)
            assert int(target.early[f"POST {path}"].headers["Retry-After"]) > 0

    def test_a_prediction_above_its_time_fails_and_the_next_is_well(self, special):
        with special(PREDICTION_TIMEOUT="1") as server:
            server.wait_ready()
            answer = server.predict("sleep 100")
            assert answer["status"] == "failed"
            assert answer["error_message"].endswith("Timeout")
            server.wait_ready()
            assert server.predict("x")["status"] == "success"

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_a_stop_answers_what_was_accepted_and_exits_0(self, special, pool, signum):
        with special() as server:
            server.wait_ready()
            gate = server.gate("stop")
            first = pool.submit(server.predict, "wait stop")
            with gate.open():
                others = [pool.submit(server.predict, f"n{number}") for number in range(6)]
                wait_until(lambda: "tungsten_predictions_pending 7.0" in server.get("/metrics").text, "7")
                server.process.send_signal(signum)
                server.wait_for_log("answering what was accepted")
            assert [one.result()["status"] for one in (first, *others)] == ["success"] * 7
            assert server.process.wait(DEADLINE) == 0

    def test_five_failed_setups_end_it_with_status_1(self, special):
        with special(SURFACE_SETUP="fail", TUNGSTEN_MAX_SETUPS="5") as server:
            wait_until(lambda: "no weights" in server.get("/readyz").text, "the reason")
            assert server.process.wait(60) == 1
            assert server.logged("OSError: no weights")
