"""Mirrors, certificates, proxies and the clock, by a server of the test's own and by made answers."""

from datetime import UTC, datetime, timedelta

import pytest

from tungstenkit import certificates, configured
from tungstenkit.doctor import network
from tungstenkit.doctor.finding import State
from tungstenkit.doctor.network import Asked
from tungstenkit.fetch import machine_mirrors
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.fetch.web import UntrustedError, WebError
from tungstenkit.lacks import Linux
from tungstenkit.sdk.errors import TungstenError

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DEBIAN = Linux(family="debian")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """One without proxies, whose pip, apt and settings say nothing."""
    for name in (*certificates.VARIABLES, "PIP_CERT", "TUNGSTEN_MIRROR_DEBIAN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(network, "getproxies_environment", dict)
    monkeypatch.setattr(configured, "pip_files", lambda _: {})
    monkeypatch.setattr(machine_mirrors, "apt_bases", dict)


def mirrors(server, **changed):
    url = server.url
    known = {
        "debian": (f"{url}/debian",),
        "debian_security": (f"{url}/security",),
        "pypi": f"{url}/simple",
        "npm": f"{url}/npm",
        "found": datetime.now(UTC),  # as the server's clock is
    }
    return Mirrors(**(known | changed))


@pytest.fixture
def finds(monkeypatch, server):
    """Sets what mirrors the machine has; by default the server, which has all."""
    release = next(iter(network.RELEASES))
    server.answers |= {
        f"/debian/dists/{release}/InRelease": [(200, "", b"signed")],
        f"/security/dists/{release}-security/InRelease": [(200, "", b"signed")],
    }

    def finds(found=None):
        def find_mirrors(**_):
            if isinstance(found, Exception):
                raise found
            return found or mirrors(server)

        monkeypatch.setattr(machine_mirrors, "find_mirrors", find_mirrors)

    finds()
    return finds


def looked(linux=DEBIAN):
    return {one.lack.name: one for one in network.network(linux)}


def test_servers_that_answer(finds, server):
    found = looked()
    assert {name for name, one in found.items() if one.state is not State.OK} == set()
    assert found["Debian's archive"].found == f"{server.url}/debian {server.url}/security"
    # Each was asked once; a project or a ping that it has not, it has answered.
    assert len(server.seen) == 4


def test_a_mirror_that_is_gone(finds, server):
    finds(mirrors(server, debian=("http://user:secret@127.0.0.1:9/debian",)))
    found = looked()["Debian's archive"]
    assert found.forbids_building
    assert found.found == "http://127.0.0.1:9/debian: no connection"
    assert found.remedies[0].command == "export TUNGSTEN_MIRROR_DEBIAN=URL"


def test_one_mirror_of_two_is_enough(finds, server):
    finds(mirrors(server, debian=("http://127.0.0.1:9/debian", f"{server.url}/debian")))
    assert looked()["Debian's archive"].state is State.OK


@pytest.mark.parametrize("answers", [True, False])
def test_a_machine_without_a_mirror_has_the_snapshot_service(finds, server, monkeypatch, answers):
    place = server.url if answers else "http://127.0.0.1:9"
    monkeypatch.setattr("tungstenkit.fetch.mirrors._snapshot", lambda *_: f"{place}/debian")
    finds(mirrors(server, debian=()))
    found = looked()
    if answers:
        one = found["mirror of Debian's archive"]
        assert (one.state, one.forbids_building) == (State.LACKING, False)
    else:
        one = found["Debian's archive"]
        assert one.forbids_building
        assert "nor does the snapshot service answer: no connection" in one.found
    assert one.found.startswith("none is known: apt has no source here")


def test_sources_of_another_system_are_no_mirror(finds, server, monkeypatch):
    """As on Ubuntu."""
    monkeypatch.setattr("tungstenkit.fetch.mirrors._snapshot", lambda *_: f"{server.url}/debian")
    monkeypatch.setattr(machine_mirrors, "apt_bases", lambda: {"http://archive.test/ubuntu": None})
    finds(mirrors(server, debian=()))
    found = looked()["mirror of Debian's archive"]
    assert (
        found.found
        == "none that this machine knows has debian, signed and of today: http://archive.test/ubuntu"
    )


def test_why_a_source_does_not_answer_is_told(monkeypatch):
    monkeypatch.setattr(machine_mirrors, "apt_bases", lambda: {"http://a.test/debian": None})
    asked = Asked(
        {"http://a.test/debian/dists/x/InRelease": WebError.of("no answer in time", "http://a.test")}
    )
    assert network._why_no_mirror("debian", asked) == "http://a.test/debian: no answer in time"


def test_an_index_that_wants_a_name(finds, server):
    server.answers["/simple/iniconfig/"] = [(401, "", b"")]
    found = looked()["Python index"]
    assert found.forbids_building
    assert "HTTP 401" in found.found
    assert "~/.netrc" in found.remedies[0].says
    assert found.remedies[1].command == "export TUNGSTEN_MIRROR_PYPI=URL"


def test_npm_s_registry_is_needed_by_few(finds, server):
    finds(mirrors(server, npm="http://127.0.0.1:9"))
    found = looked()["npm's registry"]
    assert (found.state, found.forbids_building) == (State.LACKING, False)
    finds(mirrors(server, npm=None))
    assert "npm's registry" not in looked()


def test_no_index_that_is_known(finds):
    finds(TungstenError("no Python index is known", hint="set TUNGSTEN_MIRROR_PYPI"))
    found = looked()
    assert found["Python index"].forbids_building
    assert found["clock"].state is State.UNSURE


def untrusted(reason):
    return Asked({"https://index.test/simple/x/": UntrustedError.of(reason, "https://index.test/simple/x/")})


UNKNOWN = "the TLS handshake failed: unable to get local issuer certificate"
LATER = "the TLS handshake failed: certificate is not yet valid"
OTHER = "the TLS handshake failed: Hostname mismatch, certificate is not valid for 'index.test'"


def test_an_unknown_authority_is_told_with_its_server():
    found = network._certificates(untrusted(UNKNOWN), DEBIAN)
    assert found.found == f"index.test: {UNKNOWN}"
    assert found.forbids_building
    assert "export SSL_CERT_FILE=FILE" in [one.command for one in found.remedies]


def test_another_server_in_its_place_is_no_lack_of_an_authority():
    found = network._certificates(untrusted(OTHER), DEBIAN)
    assert [one.command for one in found.remedies] == [""]
    assert "proxy" in found.remedies[0].says


def test_a_place_for_certificates_that_has_none(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    found = network._certificates(Asked(), DEBIAN)
    assert found.state is State.UNSURE
    assert found.found.startswith(f"SSL_CERT_FILE names {tmp_path}/gone.pem, which has no certificate")
    found = network._certificates(untrusted(UNKNOWN), DEBIAN)
    assert "gone.pem" in found.found


@pytest.mark.parametrize(
    ("minutes", "state"), [(0, State.OK), (4, State.OK), (-6, State.LACKING), (9000, State.LACKING)]
)
def test_the_clock_is_compared_with_what_servers_say(minutes, state):
    there = NOW + timedelta(minutes=minutes)
    found = network.clock(NOW, Asked(dates=[there, there, datetime(1970, 1, 1, tzinfo=UTC)]), DEBIAN)
    assert found.state is state
    if state is State.LACKING:
        assert found.forbids_building
        assert f"{there:%Y-%m-%d %H:%M} by what servers say" in found.found
        assert found.remedies[0].command == "timedatectl set-ntp true"


def test_by_a_wrong_clock_an_index_is_not_of_today(finds, server, monkeypatch):
    monkeypatch.setattr("tungstenkit.fetch.mirrors._snapshot", lambda *_: "http://127.0.0.1:9")
    monkeypatch.setattr(machine_mirrors, "apt_bases", lambda: {"http://archive.test/debian": None})
    finds(mirrors(server, debian=(), found=datetime(1999, 1, 1, tzinfo=UTC)))
    found = looked()
    assert found["clock"].state is State.LACKING
    assert [one.says for one in found["Debian's archive"].remedies] == ["see clock"]


def test_a_clock_by_which_certificates_are_not_valid():
    assert network.clock(NOW, untrusted(LATER), DEBIAN).state is State.LACKING
    assert network.clock(NOW, untrusted(UNKNOWN), DEBIAN).state is State.UNSURE
    assert network.clock(NOW, Asked(), DEBIAN).state is State.UNSURE
    # Others' word for the time counts more: then it is the server's certificate.
    assert network.clock(NOW, Asked(untrusted(LATER).problems, dates=[NOW]), DEBIAN).state is State.OK


def test_what_a_cache_answers_is_older(server):
    server.answers["/x"] = [(200, "", b"")]
    server.more["Age"] = "86400"
    asked = Asked()
    asked.get(f"{server.url}/x")
    plain = Asked()
    server.more.clear()
    plain.get(f"{server.url}/x")
    assert timedelta(hours=23) < asked.dates[0] - plain.dates[0] < timedelta(hours=25)


def test_a_proxy_answers_at_its_port_or_not(monkeypatch, server):
    proxies = {"http": server.url.replace("//", "//me:secret@"), "https": "127.0.0.1:9", "no": "localhost"}
    monkeypatch.setattr(network, "getproxies_environment", lambda: proxies)
    good, bad = network._proxies()
    assert (good.state, bad.state) == (State.OK, State.LACKING)
    assert good.found == f"{server.url} (http)"
    assert bad.remedies[0].command == "unset https_proxy HTTPS_PROXY"
    monkeypatch.setattr(network, "getproxies_environment", lambda: {"all": "socks5://nobody.invalid:port"})
    (odd,) = network._proxies()
    assert odd.state is State.LACKING
