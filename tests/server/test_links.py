"""Output files as links: what they give, for how long, and what a model's file may not do."""

import base64
import json

import pytest
import requests
from tungsten_server.http.links import OutputLinks
from tungsten_server.words.prediction import Output

from tests.server.conftest import DEADLINE, SPEC

FILE = {"type": "string", "format": "uri", "x-file-type": "image"}
SCHEMA = {
    "type": "object",
    "properties": {"one": FILE, "many": {"type": "array", "items": FILE}, "text": {"type": "string"}},
}
DEMO = {"type": "object", "properties": {"shown": FILE}}


def data_uri(content=b"picture", media_type="image/png"):
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def output(value, demo=None):
    return Output(json.dumps(value).encode(), b"" if demo is None else json.dumps(demo).encode())


def file_of(uri):
    return OutputLinks(SCHEMA, DEMO).file([output({"one": uri})], 0, 0)


# Which files, and how they are called


def test_each_file_gets_an_address_and_nothing_else_does():
    value = {
        "one": data_uri(),
        "many": [data_uri(), "https://host/a", data_uri()],
        "text": data_uri(),
        "x": data_uri(),
    }
    links = OutputLinks(SCHEMA, DEMO)
    first, second = links.linked([output(value, {"shown": data_uri()}), output({"text": "é"})], "/files/ID")
    assert json.loads(first.json) == {
        "one": "/files/ID/0/0",
        "many": ["/files/ID/0/1", "https://host/a", "/files/ID/0/2"],
        "text": data_uri(),
        "x": data_uri(),
    }
    assert json.loads(first.demo_json) == {"shown": "/files/ID/0/3"}
    assert (json.loads(second.json), second.demo_json) == ({"text": "é"}, b"")


def test_an_address_leads_to_the_file_that_stood_there():
    links = OutputLinks(SCHEMA, DEMO)
    first = output({"many": [data_uri(b"1"), data_uri(b"2")]}, {"shown": data_uri(b"3")})
    outputs = [output({"one": data_uri(b"0")}), first]
    found = [links.file(outputs, index, number) for index, number in ((0, 0), (1, 0), (1, 1), (1, 2))]
    assert [file.content for file in found] == [b"0", b"1", b"2", b"3"]
    assert [links.file(outputs, *place) for place in ((0, 1), (1, 3), (2, 0), (10**30, 0))] == [None] * 4


def test_a_text_that_looks_like_a_file_is_none():
    assert file_of("data:image/png;base64,A") is None
    assert file_of("data:,x") is None


@pytest.mark.parametrize(
    ("declared", "media_type", "disposition"),
    [
        ("image/png", "image/png", 'inline; filename="output-0.png"'),
        ("image/jpeg", "image/jpeg", 'inline; filename="output-0.jpg"'),
        ("video/mp4", "video/mp4", 'inline; filename="output-0.mp4"'),
        ("audio/wav", "audio/wav", 'inline; filename="output-0.wav"'),
        ("model/stl;name=file.stl", "model/stl", 'attachment; filename="output-0.stl"'),
        ("x/y;name=file.nii.gz;a=b", "x/y;a=b", 'attachment; filename="output-0.nii.gz"'),
        ("audio/mpeg;x=y", "audio/mpeg;x=y", 'inline; filename="output-0.mp3"'),
        ("image/svg+xml", "image/svg+xml", 'attachment; filename="output-0.svg"'),
        ("IMAGE/SVG+XML;charset=utf-8", "IMAGE/SVG+XML;charset=utf-8", 'attachment; filename="output-0.svg"'),
        ("text/html", "text/html", 'attachment; filename="output-0.html"'),
        ("application/x-made-up", "application/x-made-up", 'attachment; filename="output-0.bin"'),
        ("", "application/octet-stream", 'attachment; filename="output-0.bin"'),
        ("image/png\r\nX-Y: z", "application/octet-stream", 'inline; filename="output-0.bin"'),
    ],
)
def test_the_media_type_says_whether_a_browser_shows_it(declared, media_type, disposition):
    file = file_of(data_uri(media_type=declared))
    assert (file.content, file.media_type, file.disposition) == (b"picture", media_type, disposition)


# Over HTTP

MODEL = """
from typing import List, Optional
from tungstenkit import BaseIO, Binary, Option, define_model

class Input(BaseIO):
    content: Binary
    fail: bool = Option(False)

class Output(BaseIO):
    file: Binary

class DemoOutput(BaseIO):
    files: List[Binary]

@define_model(input=Input, output=Output, demo_output=DemoOutput, batch_size=4)
class Model:
    def predict(self, inputs):
        if inputs[0].fail:
            raise ValueError("asked to fail")
        return [Output(file=i.content) for i in inputs]

    def predict_demo(self, inputs):
        return self.predict(inputs), [DemoOutput(files=[i.content] * 2) for i in inputs]
"""

BINARY = {"type": "string", "format": "uri", "x-file-type": "binary"}
MODEL_SPEC = {
    **SPEC,
    "input-schema": {
        "type": "object",
        "properties": {"content": BINARY, "fail": {"type": "boolean", "default": False}},
        "required": ["content"],
    },
    "output-schema": {"type": "object", "properties": {"file": BINARY}},
    "demo-output-schema": {
        "type": "object",
        "properties": {"files": {"type": "array", "items": BINARY}},
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from tests.server.conftest import running_server

    with running_server(tmp_path_factory.mktemp("links"), model=MODEL, spec=MODEL_SPEC) as server:
        yield server


def linked(server, content=b"picture", media_type="image/png"):
    """The address of the output of a prediction."""
    answer = server.post([{"content": data_uri(content, media_type)}], "/predict?files=links").json()
    assert answer["status"] == "success"
    return answer["outputs"][0]["file"]


def get(server, path, **headers):
    return requests.get(server.url + path, headers=headers, timeout=DEADLINE)


def test_files_are_data_uris_unless_links_are_asked_for(server):
    value = [{"content": data_uri()}]
    for path in ("/predict", "/predict?files=data"):
        assert server.post(value, path).json()["outputs"] == [{"file": data_uri()}]
    assert get(server, linked(server)).content == b"picture"


def test_an_asynchronous_prediction_has_links_too(server):
    path = (
        "/predictions/"
        + server.post([{"content": data_uri(b"1")}] * 2, "/predictions").json()["prediction_id"]
    )
    assert [one["file"][:5] for one in server.ended(path)["outputs"]] == ["data:"] * 2
    outputs = server.get(f"{path}?files=links").json()["outputs"]
    assert outputs == server.get(f"{path}?files=links").json()["outputs"]  # the same each time
    assert [get(server, one["file"]).content for one in outputs] == [b"1", b"1"]
    assert path.rpartition("/")[2] not in outputs[0]["file"]  # who has a file has not the prediction


def test_a_demo_has_links_too(server):
    path = "/demo/" + server.post([{"content": data_uri()}], "/demo").json()["demo_id"]
    server.ended(path)
    (demo,) = server.get(f"{path}?files=links").json()["demo_outputs"]
    assert len(set(demo["files"])) == 2
    assert [get(server, one).content for one in demo["files"]] == [b"picture"] * 2


def test_what_has_no_outputs_has_no_links(server):
    failed = server.post([{"content": data_uri(), "fail": True}], "/predict?files=links").json()
    assert (failed["outputs"], failed["error_message"]) == (None, "ValueError: asked to fail")


@pytest.mark.parametrize("path", ["/predict?files=x", "/predict?files="])
def test_another_word_is_refused_before_anything_runs(server, path):
    response = server.post([{"content": data_uri()}], path)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", "files"]


def test_a_file_says_what_it_is_and_may_do_nothing(server):
    page = b"<script>fetch('/metrics')</script>"
    response = get(server, linked(server, page, "text/html"))
    assert response.content == page
    assert response.headers["Content-Type"] == "text/html"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "sandbox"} <= set(policy)
    assert response.headers["Cache-Control"].startswith("private")


def test_a_part_of_a_file_can_be_asked_for(server):
    path = linked(server, b"0123456789", "video/mp4")
    whole = get(server, path)
    assert (whole.status_code, whole.headers["Accept-Ranges"]) == (200, "bytes")
    part = get(server, path, Range="bytes=2-4")
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["Content-Range"] == "bytes 2-4/10"
    assert get(server, path, Range="bytes=-3").content == b"789"
    same = get(server, path, Range="bytes=8-", **{"If-Range": whole.headers["ETag"]})
    assert same.content == b"89"
    beyond = get(server, path, Range="bytes=10-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */10")
    assert beyond.json() == {"detail": "Requested Range Not Satisfiable"}
    known = get(server, path, **{"If-None-Match": whole.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize("asked", ["rows=0-1", "bytes=0-1,4-5", "bytes=-1,2-", "bytes"])
def test_a_range_that_is_not_one_of_bytes_is_ignored(server, asked):
    answer = get(server, linked(server, b"0123456789", "video/mp4"), Range=asked)
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    "path", ["0/0", "x/0/0", "{id}/1/0", "{id}/0/1", "{id}/0/x", "{id}/0", "{id}/-1/0", "{id}/0/-1"]
)
def test_an_unknown_file_is_404(server, path):
    (files_id,) = linked(server).split("/")[2:3]
    response = get(server, "/files/" + path.format(id=files_id))
    assert response.status_code == 404
    assert isinstance(response.json()["detail"], str)


def test_files_expire_with_their_results(start_server):
    flags = ("--max-results-bytes", "9000")
    with start_server(*flags, model=MODEL, spec=MODEL_SPEC) as server:
        first = linked(server, b"1" * 3000)
        assert get(server, first).status_code == 200
        second = linked(server, b"2" * 3000)
        assert get(server, first).status_code == 404
        assert get(server, second).content == b"2" * 3000


def test_the_host_that_a_client_names_is_not_told(server):
    headers = {"Host": "10.6.6.6", "X-Forwarded-Host": "evil.test", "X-Forwarded-Prefix": "/evil"}
    answer = server.post([{"content": data_uri()}], "/predict?files=links", **headers)
    assert "evil" not in answer.text
    assert "10.6.6.6" not in answer.text
