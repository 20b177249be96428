"""The wire format, over HTTP, of a server that runs."""

import http.client
import io
import json
from pathlib import Path

import PIL.Image
import pytest
import requests
from tungsten_server.checks.inputs import InputSchema
from tungsten_server.checks.reading import InputReader
from tungsten_server.http.access import Access
from tungsten_server.http.app import Api, Records, create_app
from tungsten_server.http.metrics import Metrics
from tungsten_server.http.results import Results
from tungsten_server.words.budget import ByteBudget
from tungsten_server.words.settings import Settings
from tungsten_server.words.spec import Spec

from tests.server.conftest import DEADLINE, MODEL, SPEC


def test_a_prediction_has_all_keys_and_its_outputs_in_order(server):
    response = server.post([{"do": "a"}, {"do": "b"}, {"do": "c"}])
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    prediction = response.json()
    assert [output["did"] for output in prediction.pop("outputs")] == ["a", "b", "c"]
    assert prediction == {"status": "success", "error_message": None}


def test_a_failed_prediction_is_200_with_the_exception_and_no_traceback(server):
    response = server.post([{"do": "raise what went wrong"}])
    assert response.status_code == 200
    assert response.json() == {
        "outputs": None,
        "status": "failed",
        "error_message": "ValueError: what went wrong",
    }


def test_metadata_are_the_spec_s(server):
    response = server.get("/")
    assert response.status_code == 200
    assert response.json() == {
        "name": "test-model",
        "input_schema": SPEC["input-schema"],
        "output_schema": SPEC["output-schema"],
        "demo_output_schema": SPEC["output-schema"],
        "examples": [],
    }


def test_the_demo_page_is_served_with_its_files(server):
    page = server.get("/demo")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert server.get("/static/demo.js").status_code == 200
    assert server.get("/static/none.js").json() == {"detail": "Not Found"}


def test_health_and_readiness_are_200_when_the_model_is_set_up(server):
    assert server.get("/healthz").json() == {"status": "ok"}
    assert server.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("body", "location", "kind"),
    [
        (b"", ["body"], "json_invalid"),
        (b"[{", ["body"], "json_invalid"),
        (b"\xff\xfe\xff", ["body"], "json_invalid"),
        (b"[" * 100_000 + b"]" * 100_000, ["body"], "json_invalid"),
        (b'[{"do": ' + b"1" * 10_000 + b"}]", ["body"], "json_invalid"),
        (b'[{"do": "x", "scale": NaN}]', ["body", 0, "scale"], "json_invalid"),
        (b'[{"do": "x", "scale": 1e999}]', ["body", 0, "scale"], "json_invalid"),
        (b'[{"do": "\\ud800"}]', ["body", 0], "json_invalid"),
        ({"do": "x"}, ["body"], "list_type"),
        ("x", ["body"], "list_type"),
        ([], ["body"], "too_short"),
        ([5], ["body", 0], "type"),
        ([{"do": "x"}, {}], ["body", 1, "do"], "missing"),
        ([{"do": 5}], ["body", 0, "do"], "type"),
        ([{"do": "x", "scale": "2"}], ["body", 0, "scale"], "type"),
        ([{"do": "x", "scale": 11}], ["body", 0, "scale"], "maximum"),
        ([{"do": "x", "picture": "http://127.0.0.1/"}], ["body", 0, "picture"], "url_not_enabled"),
        ([{"do": "x", "picture": "file:///etc/passwd"}], ["body", 0, "picture"], "file_invalid"),
    ],
)
def test_an_invalid_body_is_422_and_says_where(server, body, location, kind):
    response = server.post(body)
    assert response.status_code == 422
    (detail,) = response.json()["detail"]
    assert (detail["loc"], detail["type"]) == (location, kind)
    assert detail["msg"]


def test_the_message_for_a_url_says_how_urls_are_allowed(server):
    response = server.post([{"do": "x", "picture": "https://host/a.png"}])
    assert "--allow-urls" in response.json()["detail"][0]["msg"]


@pytest.mark.parametrize("depth", [150, 900, 3000, 20_000])
def test_deep_nesting_is_answered(server, depth):
    body = b'[{"do": "x", "unknown": ' + b"[" * depth + b"]" * depth + b"}]"
    assert server.post(body).status_code in (200, 422)


def test_unknown_fields_are_ignored(server):
    assert server.post([{"do": "x", "unknown": 1}]).json()["status"] == "success"


def test_a_wrong_content_type_is_said_so(server):
    response = server.post([{"do": "x"}], **{"Content-Type": "text/plain"})
    assert response.status_code == 422
    assert "text/plain" in response.json()["detail"][0]["msg"]


@pytest.mark.parametrize("path", ["/predict", "/predictions", "/demo"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_compressed_body_is_415(server, path, kind):
    for encoding in ("gzip", "br", "gzip, identity"):
        response = server.post(b'[{"do": "x"}]', path, **{"Content-Type": kind, "Content-Encoding": encoding})
        assert response.status_code == 415
        assert encoding in response.json()["detail"]
        assert response.headers["Accept-Encoding"] == "identity"
    assert server.post([{"do": "x"}], path, **{"Content-Encoding": "identity"}).status_code == 200


def test_a_slash_at_the_end_of_a_path_changes_nothing(server):
    assert server.post([{"do": "x"}], "/predict/").json()["outputs"][0]["did"] == "x"
    created = server.post([{"do": "x"}], "/predictions/").json()["prediction_id"]
    assert server.ended(f"/predictions/{created}/")["status"] == "success"
    for path in ("/healthz/", "/readyz/", "/metrics/", "/openapi.json/", f"/predictions/{created}/"):
        response = server.get(path)
        assert (response.status_code, response.history) == (200, [])
    # What a page refers to, it still finds.
    for path, link in (("/demo/", "../static/demo.js"), ("/docs/", "../openapi.json")):
        assert f'"{link}"' in server.get(path).text


def test_a_json_content_type_may_have_parameters(server):
    response = server.post([{"do": "x"}], **{"Content-Type": "application/json; charset=utf-8"})
    assert response.status_code == 200


def test_an_unknown_route_is_404(server):
    response = server.get("/nothing/here")
    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


def test_a_wrong_method_is_405_and_says_which_are_right(server):
    response = server.get("/predict")
    assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
    assert "POST" in response.headers["Allow"]


def raw_request(server, lines):
    """Send header lines alone; return status and parsed body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    connection.connect()
    connection.sock.sendall("\r\n".join([*lines, "", ""]).encode())
    response = http.client.HTTPResponse(connection.sock)
    response.begin()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def test_a_body_above_the_limit_is_413_before_it_is_sent(server):
    lines = ["POST /predict HTTP/1.1", "Host: localhost", f"Content-Length: {256 * 1024 * 1024 + 1}"]
    assert raw_request(server, lines) == (413, {"detail": "Request Entity Too Large"})


def test_the_limit_itself_is_allowed(start_server):
    with start_server("--max-body", "12") as server:
        assert server.post(b'[{"do":"x" }]').status_code == 413
        assert server.post(b'[{"do":"x"}]').status_code == 200


def test_what_is_not_http_is_400_in_json(server):
    assert raw_request(server, ["GET / HTTP/1.1", "no colon"]) == (400, {"detail": "Bad Request"})


def test_a_defect_is_500_without_a_traceback():
    spec = Spec("name", "module", "Class", 1, *[{"type": "object"}] * 3)
    settings = Settings(Path("spec.json"))
    schema = InputSchema(spec.input_schema, settings.max_file)

    class Broken:
        def submit(self, inputs, **_):
            raise RuntimeError("secret")

    budget, results = ByteBudget(9), Results(9, 9, lambda: 0)
    records = Records(results, budget, Metrics(Broken(), results, budget, 1))
    reader = InputReader(schema, spec.input_schema, settings.max_inputs, None)
    api = Api(spec, settings, reader, Broken(), records, Access(None, ()))
    response = create_app(api).test_client().post("/predict", json=[{}])
    assert (response.status_code, response.json) == (500, {"detail": "Internal Server Error"})
    assert budget.taken == 0


PART = b'--x\r\nContent-Disposition: form-data; name="scale"\r\n\r\n1.5\r\n'


class TestForms:
    def test_a_form_is_one_input_whose_files_need_no_base64(self, start_server):
        model = MODEL.replace("did=i.do", "did=repr((i.do, i.picture.to_bytes(), i.picture.media_type))")
        picture = ("a.png", b"not really\x00", "image/png")
        with start_server(model=model) as server:
            response = server.post_form(do="5", scale="2.5", picture=picture)
            assert response.status_code == 200
            (output,) = response.json()["outputs"]
            assert output["did"] == repr(("5", b"not really\x00", "image/png"))
            assert output["scales"] == [2.5]

    @pytest.mark.parametrize("path", ["/predictions", "/demo"])
    def test_every_way_to_predict_takes_forms(self, server, path):
        (prediction_id,) = server.post_form(path, do="x").json().values()
        assert server.ended(f"{path}/{prediction_id}")["outputs"][0]["did"] == "x"

    @pytest.mark.parametrize(
        ("fields", "location", "kind"),
        [
            ({"scale": "1"}, ["body", 0, "do"], "missing"),
            ({"do": "x", "scale": "two"}, ["body", 0, "scale"], "type"),
            ({"do": "x", "scale": "NaN"}, ["body", 0, "scale"], "json_invalid"),
            ({"do": "x", "scale": "99"}, ["body", 0, "scale"], "maximum"),
            ({"do": "x", "picture": "nothing!"}, ["body", 0, "picture"], "file_invalid"),
            ({"do": ("f", b"\xff", "text/plain")}, ["body", 0, "do"], "text_invalid"),
        ],
    )
    def test_an_invalid_form_is_422_and_says_where(self, server, fields, location, kind):
        response = server.post_form(**fields)
        assert response.status_code == 422
        (detail,) = response.json()["detail"]
        assert (detail["loc"], detail["type"]) == (location, kind)

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=x", b"--y\r\n"),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: text/plain\r\n\r\na\r\n--x--"),
            ("multipart/form-data; boundary=x", b""),
            ("multipart/form-data; boundary=x", PART),
            ("multipart/form-data; boundary=x", PART + b"--x"),
            ("multipart/form-data; boundary=x", PART[:30]),
            ("multipart/form-data; boundary=x", PART + b"--y--"),
            ("multipart/form-data; boundary=x", PART.replace(b"scale", b"sc\xffale") + b"--x--"),
        ],
    )
    def test_a_broken_form_is_refused(self, server, kind, body):
        # All that it lacks has a default: what is read of it would do.
        response = server.post(body, **{"Content-Type": kind})
        (detail,) = response.json()["detail"]
        assert (response.status_code, detail["loc"], detail["type"]) == (422, ["body"], "form_invalid")

    def test_a_part_that_is_not_utf_8_is_422_at_its_field(self, server):
        body = PART.replace(b"1.5", b"\xff").replace(b"scale", b"do") + b"--x--"
        response = server.post(body, **{"Content-Type": "multipart/form-data; boundary=x"})
        (detail,) = response.json()["detail"]
        assert (response.status_code, detail["loc"], detail["type"]) == (
            422,
            ["body", 0, "do"],
            "text_invalid",
        )

    def test_a_form_has_as_many_parts_as_a_request_inputs(self, start_server):
        head, part = {"Content-Type": "multipart/form-data; boundary=x"}, PART.replace(b"scale", b"none")
        do = PART.replace(b"scale", b"do")
        with start_server("--max-inputs", "2000") as server:
            assert server.post(part * 1999 + do + b"--x--", **head).json()["status"] == "success"
            response = server.post(part * 2000 + do + b"--x--", **head)
            assert response.status_code == 413
            assert "parts" in response.json()["detail"]

    def test_few_inputs_a_request_are_no_few_fields(self, start_server):
        with start_server("--max-inputs", "1") as server:
            form = PART.replace(b"scale", b"none") * 1000 + PART.replace(b"scale", b"do") + b"--x--"
            head = {"Content-Type": "multipart/form-data; boundary=x"}
            assert server.post(form, **head).json()["status"] == "success"

    def test_a_text_may_be_as_large_as_a_body(self, server):
        response = server.post_form(do="x" * 2_000_000)
        assert len(response.json()["outputs"][0]["did"]) == 2_000_000


class TestLimits:
    def test_the_number_of_inputs(self, start_server):
        with start_server("--max-inputs", "3") as server:
            assert server.post([{"do": "x"}] * 3).status_code == 200
            response = server.post([{"do": "x"}] * 4)
            assert response.status_code == 422
            assert response.json()["detail"][0]["type"] == "too_long"

    def test_the_size_of_a_file(self, start_server):
        with start_server("--max-file", "10") as server:
            assert server.post_form(do="x", picture=("a", b"x" * 10)).status_code == 200
            for response in (
                server.post_form(do="x", picture=("a", b"x" * 11)),
                server.post([{"do": "x", "picture": "data:,12345678901"}]),
            ):
                (detail,) = response.json()["detail"]
                assert (response.status_code, detail["type"]) == (422, "file_too_large")
                assert detail["loc"] == ["body", 0, "picture"]

    def test_the_bytes_that_wait(self, start_server, gate):
        with start_server("--max-waiting-bytes", "10000") as server:
            blocked = server.begin(f"block {gate}")
            with gate.open():
                waiting = server.begin("x" * 6000)
                response = server.post([{"do": "x" * 6000}], "/predictions")
                assert response.status_code == 503
                assert int(response.headers["Retry-After"]) > 0
                assert "bytes" in response.json()["detail"]
                server.cancel(waiting)
                after = server.begin("x" * 6000)
            server.ended(blocked)
            server.ended(after)
            assert "tungsten_request_bytes_held 0.0" in server.get("/metrics").text

    def test_the_size_of_a_result(self, start_server):
        with start_server("--max-result", "5000") as server:
            assert server.predict("x" * 1000)["status"] == "success"
            message = server.predict("x" * 6000)["error_message"]
            assert message.startswith("OutputTooLarge: an output has ")
            message = server.predict(*["x" * 2000] * 3)["error_message"]
            assert message.startswith("OutputTooLarge: ")
            assert server.predict("x")["status"] == "success"

    def test_the_pixels_of_an_image(self, start_server):
        model = MODEL.replace("did=i.do", "did=str(i.picture.to_pil_image().size)")
        with start_server("--max-pixels", "100", model=model) as server:
            for width, status in ((10, "success"), (11, "failed")):
                buffer = io.BytesIO()
                PIL.Image.new("L", (width, 10)).save(buffer, "PNG")
                response = server.post_form(do="x", picture=("a.png", buffer.getvalue(), "image/png"))
                assert response.json()["status"] == status
            assert "exceeds limit of 100 pixels" in response.json()["error_message"]


def test_of_equal_names_the_last_one_counts(server):
    response = server.post(b'[{"do": "first", "do": "last"}]')
    assert response.json()["outputs"][0]["did"] == "last"


def test_a_huge_number_is_answered(server):
    digits = b"1" + b"0" * 400
    assert server.post(b'[{"do": "x", "scale": ' + digits + b"}]").status_code == 422  # above its maximum
    # Whether it is a number at all, validators of different versions see differently.
    for body in (b'[{"do": "x", "unknown": ' + digits + b"}]", b'[{"do": "x", "scale": -' + digits + b"}]"):
        assert server.post(body).status_code in (200, 422)


@pytest.mark.parametrize("path", ["/", "/predict", "/predictions/x", "/demo", "/metrics"])
def test_options_are_told_without_a_body(server, path):
    response = requests.options(server.url + path, timeout=DEADLINE)
    assert (response.status_code, response.content) == (204, b"")
    assert "Content-Type" not in response.headers
    allowed = set(response.headers["Allow"].split(", "))
    assert "OPTIONS" in allowed
    refused = requests.delete(server.url + path, timeout=DEADLINE)
    assert (refused.status_code, set(refused.headers["Allow"].split(", "))) == (405, allowed)


def test_options_of_no_route_are_404(server):
    assert requests.options(server.url + "/nothing", timeout=DEADLINE).status_code == 404


def test_an_integer_that_no_float_holds_is_422_at_its_field(server):
    response = server.post(b'[{"do": "x", "scale": -%b}]' % (b"9" * 400))
    (detail,) = response.json()["detail"]
    assert (response.status_code, detail["loc"]) == (422, ["body", 0, "scale"])


def test_half_a_surrogate_pair_in_a_name_is_told_as_something_else(server):
    response = server.post(b'[{"do": "x", "\\ud800": 1e999}]')
    (detail,) = response.json()["detail"]
    assert (response.status_code, detail["loc"]) == (422, ["body", 0, "?"])


def test_nobody_is_sent_to_a_host_that_the_client_names(server):
    assert requests.get(server.url + "//predictions//x", timeout=DEADLINE).status_code == 404
    response = requests.get(server.url + "//predictions//x", headers={"Host": "10.9.8.7"}, timeout=DEADLINE)
    assert (response.status_code, response.history) == (404, [])


@pytest.mark.parametrize(
    ("scales", "told"),
    [
        ("[1.0, float('nan')]", "scales.1: nan is not a finite number"),
        ("[float('inf'), -float('inf')]", "scales.0: inf is not a finite number; scales.1: -inf is not"),
    ],
)
def test_nan_and_infinities_fail_and_are_named(start_server, scales, told):
    with start_server(model=MODEL.replace("scales=scales", f"scales={scales}")) as server:
        for path in ("/predict", "/predict?files=links"):
            answer = server.post([{"do": "x"}], path).json()
            assert answer["status"] == "failed"
            assert answer["error_message"].startswith(f"InvalidOutput: {told}")


@pytest.mark.parametrize(
    ("last", "message"), [("-10**4299", None), ("-10**4300", "scales.1: an integer of 4301 digits")]
)
def test_an_integer_that_nobody_reads_fails_and_is_named(start_server, last, message):
    model = MODEL.replace("scales: List[float]", "scales: List[int]")
    with start_server(model=model.replace("scales=scales", f"scales=[1, {last}]")) as server:
        for path in ("/predict", "/predict?files=links"):
            answer = server.post([{"do": "x"}], path).json()
            told = message and f"InvalidOutput: {message}; 4300 is the limit"
            assert (answer["status"], answer["error_message"]) == ("failed" if told else "success", told)


def test_words_that_mean_no_number_are_words(server):
    for text in ("NaN", ":NaN", "[1,-Infinity]", '":Infinity'):
        assert server.predict(text)["outputs"][0]["did"] == text
