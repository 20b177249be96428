import base64
import time

import pytest
from tungsten_server.checks.files import FileFields

FILE = {"type": "string", "format": "uri", "x-file-type": "image"}
SCHEMA = {
    "type": "object",
    "properties": {"one": FILE, "many": {"type": "array", "items": FILE}, "text": {"type": "string"}},
}


def kinds(value, max_file=1000):
    return [(problem.location, problem.kind) for problem in FileFields(SCHEMA, max_file).problems(value)]


@pytest.mark.parametrize(
    "text",
    [
        "data:,",
        "data:,hello%20world",
        "DATA:text/plain,hello",
        "data:text/plain;charset=utf-8,hello",
        "data:image/png;base64,",
        "data:image/png;base64,AAAA",
        "data:image/png;BASE64,AA==",
        "data:;base64,AAA=",
        "data:image/svg+xml;base64,AA%3D%3D",
        "data:image/png;base64,AA\r\nAA\n",
        "AAAA",
        "AA\nAA",
        "AA==",
    ],
)
def test_a_data_uri_or_base64_is_a_file(text):
    assert kinds({"one": text}) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:",
        "data:image/png;base64",
        "data:image/png;base64AAAA",
        "data:no type,x",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,=AAA",
        "data:image/png;base64,A===",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,AAAé",
        "data:image/png;base64,AA!A",
        "AAA",
        "/etc/passwd",
        "no base64!",
        "ftp://host/a",
        "file:///etc/passwd",
    ],
)
def test_all_else_is_refused_naming_the_field(text):
    assert kinds({"one": text}) == [(("one",), "file_invalid")]
    assert kinds({"many": ["AAAA", text]}) == [(("many", 1), "file_invalid")]
    assert kinds({"text": text}) == []


def test_a_file_above_the_limit_is_refused_and_one_at_it_is_not():
    encoded = base64.b64encode(b"x" * 100).decode()
    for text in (encoded, f"data:image/png;base64,{encoded}"):
        assert kinds({"one": text}, 100) == []
        assert kinds({"one": text}, 99) == [(("one",), "file_too_large")]
    assert kinds({"one": "data:,1234"}, 3) == [(("one",), "file_too_large")]


def test_it_costs_little():
    text = "data:image/png;base64," + "A" * 40_000_000
    began = time.process_time()
    assert kinds({"one": text}, 10**9) == []
    assert time.process_time() - began < 1
