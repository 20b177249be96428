"""What is fetched for a client, and all that is not: against servers of the tests' own, with names of their own."""

import base64
import copy
import gzip
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress

import pytest
from tungsten_server.checks.inputs import InputSchema
from tungsten_server.checks.reading import LARGE_BODY, checked
from tungsten_server.checks.urls import Downloads
from tungsten_server.words.problems import MAX_PROBLEMS, InputError, UnavailableError

from tests.machine import need
from tests.server.conftest import wait_until
from tests.server.test_reading import readers_of

FILE = {"type": "string", "format": "uri", "x-file-type": "image"}
SCHEMA = InputSchema(
    {
        "type": "object",
        "properties": {
            "one": FILE,
            "many": {"type": "array", "items": FILE},
            "number": {"type": "integer"},
            "text": {"type": "string"},
        },
    },
    1000,
)
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


class Web:
    """A server on the loopback that answers each connection with what the test says, and remembers the requests."""

    def __init__(self, answer, tls=None):
        self.answer = answer
        self.tls = tls
        self.requests = []
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while not self.over.is_set():
            connection, _ = self.listener.accept()
            with connection, suppress(OSError):  # the client has gone
                self.handle(connection)

    def handle(self, connection):
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                part = connection.recv(4096)
                if not part:
                    return
                request += part
            self.requests.append(request.decode())
            for part in self.answer(request.decode().split()[1]):
                connection.sendall(part)

    def close(self):
        self.over.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.thread.join()
        self.listener.close()

    def url(self, path="/a.png", host="files.test", scheme="http"):
        return f"{scheme}://{host}:{self.port}{path}"


@pytest.fixture
def web():
    """Starts servers."""
    started = []

    def start(answer, tls=None):
        started.append(Web(answer if callable(answer) else lambda _: [answer], tls))
        return started[-1]

    yield start
    for one in started:
        one.close()


def reply(body=b"picture", status="200 OK", **headers):
    lines = {"Content_Type": "image/png", "Content_Length": str(len(body)), **headers}
    head = "".join(
        f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items() if value is not None
    )
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def redirect(to):
    return reply(b"", "302 Found", Location=to)


def downloads(names=None, networks=LOOPBACK, seconds=20, max_file=1000, max_files=10_000):
    names = names or {"files.test": ["127.0.0.1"]}

    def resolve(host, _port):
        if host not in names:
            raise socket.gaierror(-2, "Name or service not known")
        return names[host]

    return Downloads(
        max_file=max_file, max_files=max_files, seconds=seconds, networks=networks, resolve=resolve
    )


def filled(value, take=lambda _: None, **how):
    values = [value]
    fill_in(downloads(**how), values, take)
    return values[0]


def fill_in(own, values, take=lambda _: None):
    """Put files in place of addresses, as a request's body is read: twice."""
    places = checked(SCHEMA, copy.deepcopy(values), [])
    if isinstance(places, dict):
        checked(SCHEMA, values, own.fetch(places, take))


def refused(url, **how):
    """Why an address is refused: the kind and the message of the one problem."""
    with pytest.raises(InputError) as caught:
        filled({"one": url}, **how)
    (problem,) = caught.value.problems
    assert problem.location == (0, "one")
    return problem.kind, problem.message


def data_uri(body=b"picture", media_type="image/png"):
    return f"data:{media_type};base64,{base64.b64encode(body).decode()}"


# What is fetched


def test_a_file_takes_the_place_of_its_address_wherever_it_stands(web):
    server = web(lambda path: [reply(path.encode())])
    value = {
        "one": server.url("/1"),
        "many": [server.url("/2?x=a%20b&c"), "data:,x"],
        "text": server.url("/3"),
    }
    assert filled(value) == {
        "one": data_uri(b"/1"),
        "many": [data_uri(b"/2?x=a%20b&c"), "data:,x"],
        "text": server.url("/3"),
    }


def test_the_request_names_the_host_and_asks_for_the_file_as_it_is(web):
    server = web(reply())
    filled({"one": server.url("/pfad/ä b.png".replace(" ", "%20") + "#part")})
    (request,) = server.requests
    assert request.startswith("GET /pfad/%C3%A4%20b.png HTTP/1.1\r\n")
    assert f"Host: files.test:{server.port}\r\n" in request
    assert "Accept-Encoding: identity\r\n" in request


@pytest.mark.parametrize(
    ("declared", "kept"),
    [
        ("image/png; charset=x", "image/png"),
        ("IMAGE/PNG", "image/png"),
        (None, "application/octet-stream;name=file.png"),
        ("image/<png>,;base64", "application/octet-stream;name=file.png"),
    ],
)
def test_the_media_type_is_the_answer_s(web, declared, kept):
    assert filled({"one": web(reply(Content_Type=declared)).url()})["one"] == data_uri(media_type=kept)


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"5\r\npictu\r\n2\r\nre\r\n0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked"),
        reply(Content_Length=None),
    ],
)
def test_a_length_need_not_be_known_before(web, answer):
    assert filled({"one": web(answer).url()})["one"] == data_uri()


def test_without_an_address_nothing_is_done():
    value = {"one": "data:,x", "text": "http://files.test/a"}
    (one,) = checked(SCHEMA, [value], [])
    assert json.loads(one.json) == value


def test_inputs_that_are_wrong_otherwise_are_refused_before_anything_is_fetched(web):
    server = web(reply())
    with pytest.raises(InputError) as caught:
        filled({"one": server.url(), "number": "x"})
    assert [problem.location for problem in caught.value.problems] == [(0, "number")]
    assert server.requests == []


# Where it leads


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1", "255.255.255.255", "168.63.129.16",
        "::", "::1", "::7f00:1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
        "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2001:0:7f00:1::1", "100::1", "5f00::1", "not an address",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_not_connected_to(address, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("connected"))
    kind, message = refused("http://public.test/", names={"public.test": [address]}, networks=())
    assert kind == "url_refused"
    assert address not in message  # nor does it tell what names mean inside


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "172.32.0.1"]
)
def test_a_public_address_is(address, monkeypatch):
    asked = []

    def connect(where, timeout):
        asked.append(where)
        raise OSError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    assert refused("http://public.test/", names={"public.test": [address]}) == (
        "url_failed",
        "the address can't be reached: Connection refused",
    )
    assert asked == [(address, 80)]


def test_one_address_that_is_not_public_is_enough(web):
    server = web(reply())
    names = {"files.test": ["127.0.0.1", "10.0.0.1"]}
    assert refused(server.url(), names=names)[0] == "url_refused"
    assert server.requests == []


def test_a_name_is_resolved_once_and_that_address_is_connected_to(web):
    server = web(reply())
    asked = []

    def resolve(host, _port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    values = [{"one": server.url()}]
    fill_in(Downloads(max_file=99, max_files=99, seconds=20, networks=LOOPBACK, resolve=resolve), values)
    assert values == [{"one": data_uri()}]
    assert asked == ["files.test"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
def test_addresses_in_any_notation_are_looked_at(web, host):
    server = web(reply())
    own = Downloads(max_file=99, max_files=99, seconds=20)  # with the machine's resolver
    with pytest.raises(InputError) as caught:
        fill_in(own, [{"one": server.url(host=host)}])
    assert caught.value.problems[0].kind == "url_refused"
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http:///x", "http:x", "https:", "http://user@files.test/", "http://user:secret@files.test/",
        "http://@files.test/",
        "http://files.test:0/", "http://files.test:99999/", "http://files.test:x/", "http://[::1/",
        "http://files.test/a b",
        "http://files.test\\@10.0.0.1/", "http://files.test/\r\nX: y", "http://" + "a" * 64 + ".test/", "http://a..b/",
        "http://files.test/" + "a" * 9000, "http://\u2100\udc80/",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(url):
    assert refused(url)[0] in ("url_invalid", "url_failed")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "FILE:///etc/passwd", "ftp://files.test/a", "/etc/passwd"]
)
def test_other_schemes_are_never_fetched(url):
    with pytest.raises(InputError):
        checked(SCHEMA, [{"one": url}], [])


def test_proxies_of_the_environment_are_not_asked(web, monkeypatch):
    proxy, server = web(reply(b"proxy")), web(reply())
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert filled({"one": server.url()}) == {"one": data_uri()}


# Redirects


def test_redirects_are_followed_up_to_a_limit(web):
    server = web(lambda path: [redirect(f"/{int(path[1:]) - 1}") if path != "/0" else reply()])
    assert filled({"one": server.url("/5")}) == {"one": data_uri()}
    assert refused(server.url("/6"))[1] == "the address leads to more than 5 others"


@pytest.mark.parametrize(
    ("to", "kind"),
    [
        ("http://inside.test/", "url_refused"),
        ("//inside.test/x", "url_refused"),
        ("http://169.254.169.254/latest/meta-data/", "url_refused"),
        ("file:///etc/passwd", "url_invalid"),
        ("ftp://files.test/", "url_invalid"),
        ("http://me@files.test/", "url_invalid"),
        ("http://[", "url_failed"),
    ],
)
def test_a_redirect_is_looked_at_like_the_first_address(web, to, kind):
    names = {"files.test": ["127.0.0.1"], "inside.test": ["10.0.0.1"], "169.254.169.254": ["169.254.169.254"]}
    assert refused(web(redirect(to)).url(), names=names)[0] == kind


# Limits


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"x" * 1001),
        reply(b"x" * 1001, Content_Length=None),
        reply(b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked"),
        reply(b"", Content_Length=str(10**15)),
    ],
)
def test_a_file_that_is_too_large_is_cut(web, answer):
    assert refused(web(answer).url()) == ("file_too_large", "the file has more than 1000 bytes")


def test_a_file_of_the_largest_size_is_not(web):
    assert filled({"one": web(reply(b"x" * 1000)).url()}) == {"one": data_uri(b"x" * 1000)}


def test_the_files_of_a_request_have_a_limit_together(web):
    server = web(reply(b"x" * 600))
    with pytest.raises(InputError) as caught:
        filled({"many": [server.url()] * 3}, max_files=1200)
    assert [(one.location, one.kind) for one in caught.value.problems] == [((0, "many", 2), "file_too_large")]


def test_compressed_content_is_not_taken(web):
    bomb = gzip.compress(bytes(10_000_000))
    kind, message = refused(web(reply(bomb, Content_Encoding="gzip")).url(), max_file=10**9)
    assert kind == "url_failed"
    assert "Content-Encoding 'gzip'" in message


def drip(over, first=b""):
    yield first
    while not over.wait(0.01):
        yield b"x"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n",
    ],
)
def test_a_slow_answer_is_cut_however_slow_it_is(web, first):
    over = threading.Event()
    try:
        assert refused(web(lambda _: drip(over, first)).url(), seconds=0.3, max_file=10**9) == (
            "url_timeout",
            "the request's files were not there within 0.3 seconds",
        )
    finally:
        over.set()


def test_a_server_that_says_nothing_is_cut(web):
    over = threading.Event()

    def silent(_):
        over.wait()
        return []

    try:
        assert refused(web(silent).url(), seconds=0.2)[0] == "url_timeout"
    finally:
        over.set()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply(b"", "404 Not Found"), "status 404"),
        (reply(b"", "302 Found"), "status 302"),
        (reply(b"", "206 Partial Content"), "status 206"),
        (reply(b"x", Content_Length="7"), "1 bytes of 7 came"),
        (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
        (b"", "can't be reached"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "not HTTP"),
    ],
)
def test_an_answer_that_is_no_file_is_told(web, answer, message):
    kind, said = refused(web(answer).url())
    assert kind == "url_failed"
    assert message in said


def test_a_name_that_is_not_known_is_told():
    assert refused("http://nowhere.test/")[1] == "the address can't be reached: Name or service not known"


def test_each_field_s_problem_is_told(web):
    with pytest.raises(InputError) as caught:
        filled({"one": web(reply(b"", "404 No")).url(), "many": ["data:,", "http://nowhere.test/"]})
    assert [one.location for one in caught.value.problems] == [(0, "one"), (0, "many", 1)]


def test_a_request_full_of_bad_addresses_ends_early():
    asked = []

    def resolve(host, _port):
        asked.append(host)
        return ["10.0.0.1"]

    own = Downloads(max_file=99, max_files=99, seconds=20, resolve=resolve)
    with pytest.raises(InputError) as caught:
        fill_in(own, [{"many": ["http://inside.test/"] * 1000}])
    assert len(caught.value.problems) == len(asked) == MAX_PROBLEMS


def test_bytes_are_asked_for_before_they_are_held(web):
    def take(number):
        asked.append(number)
        if sum(asked) > 900:
            raise UnavailableError("full", retry_after=1)

    asked = []
    server = web(reply(b"x" * 300))
    with pytest.raises(UnavailableError):
        filled({"many": [server.url()] * 9}, take=take)
    assert asked == [400, 400, 400]


def test_so_many_requests_fetch_at_once_and_no_more(web, pool):
    over = threading.Event()
    come = threading.Semaphore(0)

    def wait(path):
        come.release()
        over.wait()
        return [reply()]

    servers = [web(wait) for _ in range(Downloads.at_once)]
    own = downloads()

    def fetch(server):
        values = [{"one": server.url()}]
        fill_in(own, values)
        return values

    try:
        running = [pool.submit(fetch, server) for server in servers]
        for _ in servers:
            assert come.acquire(timeout=20)
        with pytest.raises(UnavailableError):
            fetch(servers[0])
    finally:
        over.set()
    assert [one.result() for one in running] == [[{"one": data_uri()}]] * Downloads.at_once
    assert fetch(servers[0]) == [{"one": data_uri()}]


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for files.test, and the folder that it is in."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += [
        "-keyout",
        folder / "key.pem",
        "-out",
        folder / "cert.pem",
        "-days",
        "2",
        "-subj",
        "/CN=files.test",
    ]
    command += ["-addext", "subjectAltName=DNS:files.test"]
    need("openssl")
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    return context


def test_https_is_verified_with_the_system_s_authorities(web, tls, authority, monkeypatch):
    server = web(reply(), tls)
    kind, message = refused(server.url(scheme="https"))
    assert kind == "url_failed"
    assert "certificate is not valid" in message
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "cert.pem"))
    assert filled({"one": server.url(scheme="https")}) == {"one": data_uri()}
    names = {"other.test": ["127.0.0.1"]}
    assert (
        "certificate is not valid" in refused(server.url(scheme="https", host="other.test"), names=names)[1]
    )


def test_what_speaks_no_tls_is_told(web):
    server = web(reply())
    server.handle = lambda connection: connection.sendall(reply())
    assert refused(server.url(scheme="https"))[1].startswith("TLS with the address failed: ")


def test_a_handshake_that_does_not_come_is_cut(web):
    over = threading.Event()
    server = web(lambda _: [])
    server.handle = lambda _: over.wait()
    try:
        assert refused(server.url(scheme="https"), seconds=0.2)[0] == "url_timeout"
    finally:
        over.set()


# Over HTTP


@contextmanager
def allowed(start_server, *flags, **environment):
    with start_server("--allow-urls", "--allow-url-networks", "127.0.0.0/8", *flags, **environment) as server:
        yield server


def test_a_request_with_an_address_gets_its_file(web, start_server):
    from tests.server.conftest import MODEL

    files = web(reply())
    model = MODEL.replace("did=i.do", "did=repr((i.picture.to_bytes(), i.picture.media_type))")
    url = files.url(host="127.0.0.1")
    with allowed(start_server, model=model) as server:
        seen = "(b'picture', 'image/png')"
        assert server.predict("x", picture=url)["outputs"][0]["did"] == seen
        assert server.post_form(do="x", picture=url).json()["outputs"][0]["did"] == seen
        assert server.ended(server.begin("x", picture=url))["outputs"][0]["did"] == seen
        response = server.post([{"do": "x", "picture": "http://10.0.0.1/"}])
        (detail,) = response.json()["detail"]
        assert (response.status_code, detail["loc"]) == (422, ["body", 0, "picture"])
        assert "tungsten_request_bytes_held 0.0" in server.get("/metrics").text


def test_a_large_body_with_an_address_is_read_apart_to_its_end(web, start_server, pool):
    """After the file has come, too, others are answered meanwhile."""
    stopped = []

    def answer(_):
        stopped.extend(readers_of(server))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        return [reply()]

    files = web(answer)
    body = json.dumps([{"do": "x", "picture": files.url(host="127.0.0.1")}]).encode()
    with allowed(start_server) as server:
        waiting = pool.submit(server.post, body + b" " * LARGE_BODY)
        try:
            wait_until(lambda: stopped, "the file's request")
            for _ in range(20):
                assert server.predict("y")["status"] == "success"
            assert not waiting.done()
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert waiting.result().json()["status"] == "success"


def test_slow_files_hold_up_nobody_else(web, start_server, pool):
    over = threading.Event()
    come = threading.Semaphore(0)

    def wait(_):
        come.release()
        over.wait()
        return [reply()]

    files = [web(wait) for _ in range(Downloads.at_once)]
    with allowed(start_server, "--max-pending", "1") as server:
        try:
            slow = [
                pool.submit(server.post, [{"do": "x", "picture": one.url(host="127.0.0.1")}]) for one in files
            ]
            for _ in files:
                assert come.acquire(timeout=20)
            one_more = server.post([{"do": "x", "picture": files[0].url(host="127.0.0.1")}])
            assert (one_more.status_code, one_more.headers["Retry-After"]) == (503, "1")
            assert server.predict("y")["status"] == "success"
            assert server.post_form(do="z").json()["status"] == "success"
            assert not any(one.done() for one in slow)
        finally:
            over.set()
        # One may be pending; the others are told so.
        assert {one.result().status_code for one in slow} <= {200, 503}
