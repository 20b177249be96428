"""Web pages of others, and names that others lead here: what a browser sends for them is refused."""

import pytest
import requests
from tungsten_server.http.access import Access, is_loopback

from tests.server.conftest import DEADLINE, connect, request

HERE = "http://127.0.0.1:3000"


def send(server, method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, server.url + path, json=body, headers=headers, timeout=DEADLINE)


@pytest.mark.parametrize(
    ("headers", "let"),
    [
        ({}, True),
        ({"origin": HERE}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:3001"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "file://"}, False),
        ({"origin": "https://127.0.0.1:3000"}, True),  # a proxy may speak TLS in front of us
        ({"site": "same-origin", "origin": "http://renamed.by.a.proxy"}, True),
        ({"site": "none"}, True),
        ({"site": "same-site", "origin": "http://127.0.0.1:3001"}, False),
        ({"site": "cross-site"}, False),
        ({"site": "cross-site", "origin": "http://app.example"}, True),
        ({"origin": "http://app.example"}, True),
        ({"origin": "http://app.example:81"}, False),
    ],
)
def test_a_page_of_another_site_can_send_nothing_that_counts(headers, let):
    access = Access(None, ["http://app.example"])
    given = {"host": "127.0.0.1:3000", "origin": None, "site": None, **headers}
    refusal = access.refusal("POST", given["host"], given["origin"], given["site"])
    assert (refusal is None) == let
    assert let or "--allow-origins (TUNGSTEN_ALLOW_ORIGINS)" in refusal
    assert access.refusal("GET", given["host"], given["origin"], given["site"]) is None


def test_a_port_that_a_scheme_has_anyway_makes_no_other_origin():
    access = Access(None, ())
    assert access.refusal("POST", "App.example:80", "http://app.example", None) is None
    assert access.refusal("POST", "app.example", "http://app.example:80", None) is None
    assert access.refusal("POST", "app.example:443", "http://app.example", None)


@pytest.mark.parametrize(
    ("host", "let"),
    [
        (None, True),
        ("localhost", True),
        ("LOCALHOST:3000", True),
        ("localhost.", True),
        ("127.0.0.1:3000", True),
        ("10.1.2.3", True),  # an address is nobody's to lead here
        ("[::1]:3000", True),
        ("demo.lan:80", True),
        ("evil.example", False),
        ("localhost.evil.example:3000", False),
        ("localhost, evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("x@evil.example", False),
        ("", False),
        ("[::1", False),
    ],
)
def test_a_name_that_others_lead_here_is_refused(host, let):
    refusal = Access(["Demo.lan"], ()).refusal("GET", host, None, None)
    assert (refusal is None) == let
    assert let or "--allow-host (TUNGSTEN_ALLOW_HOST)" in refusal
    assert Access(None, ()).refusal("GET", host, None, None) is None
    assert Access(["*"], ()).refusal("GET", host, None, None) is None


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
    ],
)
def test_what_only_this_machine_reaches(address, is_one):
    assert is_loopback(address) == is_one


@pytest.mark.parametrize("path", ["/predict", "/predictions", "/demo", "/predictions/x/cancel"])
def test_a_running_server_takes_nothing_from_strange_pages(server, path):
    for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        response = send(server, "POST", path, [{"do": "x"}], **headers)
        assert response.status_code == 403
        assert "--allow-origins" in response.json()["detail"]
        assert "Access-Control-Allow-Origin" not in response.headers
    form = requests.post(
        server.url + path, files={"do": (None, "x")}, headers={"Origin": "null"}, timeout=DEADLINE
    )
    assert form.status_code == 403


def test_on_loopback_a_server_has_one_name(server):
    for method, path in (("GET", "/"), ("GET", "/demo"), ("POST", "/predict"), ("GET", "/nothing")):
        response = send(server, method, path, [{"do": "x"}], Host=f"evil.example:{server.port}")
        assert (response.status_code, "--allow-host" in response.json()["detail"]) == (403, True)
    for host in (f"localhost:{server.port}", "127.0.0.1", "[::1]"):
        assert send(server, "POST", "/predict", [{"do": "x"}], Host=host).status_code == 200


def test_a_head_that_is_known_lets_no_other_one_through(server):
    body = b'[{"do": "x"}]'
    found = []
    with connect(server.port) as sock:
        for extra in ("", "", "Origin: http://evil.example\r\n", ""):
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}"
            sock.sendall(request("POST", "/predict", head, body))
            found.append(sock.recv(65536).split()[1])
    assert found == [b"200", b"200", b"403", b"200"]


def test_the_operator_names_hosts_and_pages(start_server):
    environment = {"TUNGSTEN_ALLOW_HOST": "demo.lan", "TUNGSTEN_ALLOW_ORIGINS": "https://app.example"}
    with start_server(**environment) as server:
        page = {"Origin": "https://app.example"}
        response = send(server, "POST", "/predict", [{"do": "x"}], Host="demo.lan", **page)
        assert response.json()["status"] == "success"
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert response.headers["Vary"] == "Origin"
        asked = send(
            server, "OPTIONS", "/predict", Access_Control_Request_Method="POST", **page,
            Access_Control_Request_Headers="content-type",
        )  # fmt: skip
        assert asked.status_code == 204
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        assert "Content-Type" in asked.headers["Access-Control-Allow-Headers"]
        refused = send(server, "POST", "/predict", [{"do": "x"}], Origin="https://evil.example")
        assert (refused.status_code, "Access-Control-Allow-Origin" in refused.headers) == (403, False)
        # Also what is wrong with a request is for the page to read.
        invalid = send(server, "POST", "/predict", [{}], **page)
        assert (invalid.status_code, "Access-Control-Allow-Origin" in invalid.headers) == (422, True)


def test_what_is_refused_before_the_application_is_for_an_allowed_page_to_read_too(start_server):
    """What is too large, and what is no HTTP."""
    with start_server("--max-body", "100", "--allow-origins", "https://app.example") as server:
        for head in ("Content-Length: 101\r\n", "Content-Length: x\r\n"):
            for origin, let in (("https://app.example", True), ("https://evil.example", False)):
                with connect(server.port) as sock:
                    sock.sendall(request("POST", "/predict", f"{head}Origin: {origin}\r\n"))
                    answer = sock.makefile("rb").read()
                assert answer.split()[1] in (b"413", b"400")
                assert (b"\r\nAccess-Control-Allow-Origin: https://app.example\r\n" in answer) == let
                assert b"\r\nVary: Origin\r\n" in answer


def test_on_all_addresses_any_name_will_do(start_server):
    with start_server("--host", "0.0.0.0") as server:
        assert send(server, "POST", "/predict", [{"do": "x"}], Host="model.example").status_code == 200
        assert (
            send(server, "POST", "/predict", [{"do": "x"}], Origin="http://evil.example").status_code == 403
        )


def test_no_page_is_shown_in_one_of_others(server):
    for path in ("/demo", "/docs"):
        headers = server.get(path).headers
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
