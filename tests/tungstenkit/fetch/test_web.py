"""Our HTTP client: what is asked again, what is told of a failure, and that no password is ever shown."""

import gzip
import os
import socket
from types import SimpleNamespace

import pytest
import requests

from tungstenkit.fetch import web
from tungstenkit.fetch.web import Fetcher, MissingError, SilentError, WebError, get_bytes
from tungstenkit.outside import redact
from tungstenkit.registry import client
from tungstenkit.sdk.errors import FetchError


@pytest.fixture
def silent():
    """The URL of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(web, "_pause", slept.append)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return slept


class TestFetching:
    def test_a_server_error_is_tried_again_with_growing_pauses(self, server, pauses):
        server.answers["/x"] = [
            (503, "text/plain", b""),
            (500, "text/plain", b""),
            (200, "text/plain", b"bytes"),
        ]
        assert get_bytes(f"{server.url}/x") == b"bytes"
        assert pauses == [0.5, 1.0]

    def test_it_gives_up_in_the_end(self, server, pauses):
        server.answers["/x"] = [(503, "text/plain", b"")]
        with pytest.raises(FetchError, match="HTTP 503") as caught:
            get_bytes(f"{server.url}/x")
        assert caught.value.where == f"{server.url}/x"
        assert len(server.seen) == 4

    def test_what_is_not_there_is_not_asked_for_again(self, server, pauses):
        with pytest.raises(MissingError, match="HTTP 404"):
            get_bytes(f"{server.url}/x")
        assert (len(server.seen), pauses) == (1, [])

    def test_a_refused_connection_is_an_error_that_shows_no_password(self, server, pauses):
        server.shutdown()
        server.server_close()
        with pytest.raises(FetchError, match="no connection") as caught:
            get_bytes(server.url.replace("//", "//user:secret@") + "/x")
        assert "secret" not in str(caught.value)
        assert caught.value.where == f"{server.url}/x"
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    def test_a_password_is_used(self, server):
        server.answers["/x"] = [(200, "text/plain", b"")]
        get_bytes(server.url.replace("//", "//user:secret@") + "/x")
        assert server.seen[0][1]["Authorization"].startswith("Basic ")

    def test_netrc_is_honoured(self, server, monkeypatch, tmp_path):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        server.answers["/x"] = [(200, "text/plain", b"")]
        get_bytes(f"{server.url}/x")
        assert server.seen[0][1]["Authorization"].startswith("Basic ")

    def test_an_answer_that_is_cut_short_is_tried_again(self, server, pauses):
        server.answers["/x"] = [(200, "cut", b"bytes"), (200, "text/plain", b"bytes")]
        assert get_bytes(f"{server.url}/x") == b"bytes"
        assert len(server.seen) == 2

    def test_a_compressed_answer_is_unpacked(self, server):
        server.answers["/x"] = [(200, "gzip", gzip.compress(b"bytes" * 1000))]
        assert get_bytes(f"{server.url}/x") == b"bytes" * 1000

    def test_a_server_that_never_answers_is_asked_twice_and_not_for_long(self, silent, monkeypatch, pauses):
        monkeypatch.setattr(web, "_TIMEOUT", (5, 0.05))
        with pytest.raises(SilentError, match="no answer in time"):
            get_bytes(silent)
        assert len(pauses) == 1

    def test_a_silent_server_is_waited_for_once(self, silent, server, monkeypatch, pauses):
        monkeypatch.setattr(web, "_TIMEOUT", (5, 0.05))
        server.answers["/x"] = [(200, "text/plain", b"bytes")]
        fetch = Fetcher()
        for path in ("a", "b", "c"):
            with pytest.raises(SilentError):
                fetch(f"{silent}/{path}")
        assert len(pauses) == 1
        assert fetch(f"{server.url}/x") == b"bytes"

    def test_the_time_limit_is_that_of_the_moment(self, server, monkeypatch):
        """No value that an argument got when it was defined: tests of what is silent would wait for that."""
        limits, request = [], requests.Session.request

        def noted(*arguments, timeout, **options):
            limits.append(timeout)
            return request(*arguments, timeout=timeout, **options)

        monkeypatch.setattr(requests.Session, "request", noted)
        monkeypatch.setattr(web, "_TIMEOUT", (7, 8))
        server.answers["/x"] = [(200, "text/plain", b"bytes")]
        get_bytes(f"{server.url}/x")
        assert limits == [(7, 8)]

    def test_a_file_that_drips_is_not_waited_for(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr(client, "_PATIENCE", -1)
        monkeypatch.setattr(client, "_SLOWEST", 1 << 60)
        server.answers["/x"] = [(200, "text/plain", b"bytes")]
        with pytest.raises(SilentError, match="no answer in time") as caught:
            web.resume(f"{server.url}/x", tmp_path / "x", 5, lambda _: None)
        assert caught.value.may_pass
        # It goes on from there.
        assert (tmp_path / "x").read_bytes() == b"bytes"

    @pytest.mark.parametrize(("seconds", "is_slow"), [(1, False), (20, True)])
    def test_an_answer_that_trickles_is_as_good_as_none(self, seconds, is_slow):
        pieces = iter([b"a", b"b", b""])
        answer = SimpleNamespace(raw=SimpleNamespace(read1=lambda *_, **__: next(pieces)), close=lambda: None)
        times = iter([0, seconds, 2 * seconds])
        if is_slow:
            with pytest.raises(requests.Timeout):
                web._read(answer, clock=lambda: next(times))
        else:
            web._read(answer, clock=lambda: next(times))
            assert answer.raw.read() == b"ab"

    @pytest.mark.parametrize("url", ["http://user:secret@[bad/x", "nothing://user:secret@host/x"])
    def test_a_bad_url_shows_no_password(self, url):
        with pytest.raises(FetchError) as caught:
            get_bytes(url)
        assert "secret" not in str(caught.value)


class TestAnErrorsFields:
    """What callers go by, so that no message is read."""

    @pytest.mark.parametrize(
        ("status", "may_pass", "kind"),
        [
            (401, False, WebError),
            (404, False, MissingError),
            (410, False, MissingError),
            (429, True, WebError),
        ],
    )
    def test_the_status_is_told_as_it_came(self, server, status, may_pass, kind):
        server.answers["/x"] = [(status, "text/plain", b"")]
        with pytest.raises(WebError) as caught:
            get_bytes(f"{server.url}/x", attempts=1)
        assert type(caught.value) is kind
        assert (caught.value.status, caught.value.may_pass) == (status, may_pass)
        assert caught.value.reason.startswith(f"HTTP {status}")

    def test_without_an_answer_there_is_no_status(self, silent, monkeypatch):
        monkeypatch.setattr(web, "_TIMEOUT", (5, 0.05))
        with pytest.raises(SilentError) as caught:
            get_bytes(silent, attempts=1)
        assert (caught.value.status, caught.value.may_pass) == (None, True)

    def test_a_url_that_is_none_is_not_asked_again(self, pauses):
        with pytest.raises(WebError) as caught:
            get_bytes("http://[bad/x")
        assert (caught.value.may_pass, pauses) == (False, [])


@pytest.mark.parametrize(("said", "waited"), [("7", 7), ("86400", 30), ("soon", 0.5), (None, 0.5)])
def test_a_busy_server_is_waited_for_as_long_as_it_says_within_reason(server, pauses, said, waited):
    server.answers["/x"] = [(429, "text/plain", b""), (200, "text/plain", b"bytes")]
    server.more = {} if said is None else {"Retry-After": said}
    assert get_bytes(f"{server.url}/x") == b"bytes"
    assert pauses == [waited]


def test_what_is_saved_is_asked_for_again_where_it_is_cut(server, tmp_path):
    server.answers["/x"] = [(200, "cut", b"by"), (200, "text/plain", b"bytes")]
    web.save(f"{server.url}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"bytes"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:8080/a?b#c", "https://host:8080/a?b#c"),
        ("https://u@host/a", "https://host/a"),
        ("https://u:p%40@host/", "https://host/"),
        ("https://u:p@q@host/", "https://host/"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://us er:p w@host/", "https://host/"),
        (
            "no 'https://u:p@host/a', nor\nhttps://h/b of me@there",
            "no 'https://host/a', nor\nhttps://h/b of me@there",
        ),
    ],
)
def test_redaction_takes_user_and_password_away_and_nothing_else(url, shown):
    assert redact(url) == shown
