"""What is known of vulnerabilities: how both sources are read, kept, and done without."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.tungstenkit.locks import deb, lock, source, wheel
from tungstenkit.audit.advisories import look_up
from tungstenkit.audit.vulnerabilities import known_here
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.fetch.web import MissingError
from tungstenkit.lock.document import packages
from tungstenkit.lock.packages import GitCommit
from tungstenkit.sdk.errors import FetchError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACKER, INDEX = "http://tracker.example/json", "http://user:secret@index.example/simple"
RELEASE = "trixie"


def state(status, fixed=None, urgency="not yet assigned", release=RELEASE):
    fields = {"status": status, "urgency": urgency, "repositories": {release: "9"}}
    return {"releases": {release: fields | ({"fixed_version": fixed} if fixed else {})}}


class Net:
    """Answers by URL: JSON, None for "not modified", or an error; and what was asked."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    def __call__(self, url, etag):
        self.asked.append((url, etag))
        answer = self.answers.get(url, MissingError("can't be fetched: HTTP 404"))
        if isinstance(answer, Exception):
            raise answer
        return answer if answer is None or isinstance(answer, tuple) else (json.dumps(answer).encode(), "E")


@pytest.fixture
def ask(tmp_path):
    def ask(net, *entries, now=NOW, tracker=TRACKER, index=INDEX, **places):
        wanted = [located for located in packages(lock(*entries)) if located.place == "image"]
        mirrors = Mirrors((), (), index, None, now, security_tracker=tracker, **places)
        return look_up(wanted, mirrors, cache=tmp_path, get=net)

    return ask


def ids(found):
    return None if found is None else [v.id for v in found]


@pytest.mark.parametrize(
    ("version", "problem", "has"),
    [
        ("1.0-1", state("open"), True),
        ("1.0-1", state("open", urgency="unimportant"), False),
        ("1.0-1", state("resolved", "1.0-2"), True),
        ("1.0-2", state("resolved", "1.0-2"), False),
        ("1.0-2~rc1", state("resolved", "1.0-2"), True),
        ("1:0.1-1", state("resolved", "1.0-2"), False),
        ("1.0-1", state("resolved", "0"), False),
        ("1.0-1", state("undetermined"), False),
        ("1.0-1", state("open", release="bookworm"), False),
        ("1.0-1", state("resolved", "<?>"), True),
    ],
)
def test_a_source_has_what_is_open_or_fixed_later_in_its_release(ask, version, problem, has):
    """The tracker names sources, and versions are compared as Debian does."""
    found = ask(Net({TRACKER: {"src": {"CVE-1": problem}}}), package := deb("bin", source=f"src ({version})"))
    assert ids(found.of(package, RELEASE)) == (["CVE-1"] if has else [])


def test_a_projects_answer_is_read_and_withdrawn_ones_are_not(ask):
    answer = {
        "vulnerabilities": [
            {"id": "PYSEC-1", "aliases": ["GHSA-x", "CVE-1"], "fixed_in": ["2"]},
            {"id": "GHSA-y", "aliases": [], "fixed_in": [], "withdrawn": None},
            {"id": "GHSA-z", "aliases": [], "fixed_in": [], "withdrawn": "2025-01-01"},
        ]
    }
    package = wheel("torch", "1+cpu")
    net = Net({"http://user:secret@index.example/pypi/torch/1/json": answer})
    found = ask(net, package).of(package, RELEASE)
    assert [(v.id, v.fixed) for v in found] == [("CVE-1", ("2",)), ("GHSA-y", ())]


def test_a_day_long_nothing_is_asked_again(ask):
    entries = [deb("a"), wheel("b")]
    answers = {TRACKER: {}, "http://user:secret@index.example/pypi/b/1/json": {"vulnerabilities": []}}
    ask(Net(answers), *entries)
    again = Net(answers)
    assert ask(again, *entries, now=NOW + timedelta(hours=23)).notices == ()
    assert again.asked == []
    ask(again, *entries, now=NOW + timedelta(hours=25))
    assert (TRACKER, "E") in again.asked


def test_data_that_have_not_changed_are_kept_for_another_day(ask):
    problem = {"a": {"CVE-1": state("open")}}
    ask(Net({TRACKER: problem}), deb("a"))
    for hours in (25, 49):
        net = Net({TRACKER: None})
        found = ask(net, deb("a"), now=NOW + timedelta(hours=hours))
        assert ids(found.of(deb("a"), RELEASE)) == ["CVE-1"]
        assert net.asked == [(TRACKER, "E")]


def test_another_tracker_is_asked_from_the_start(ask):
    ask(Net({TRACKER: {}}), deb("a"))
    other = Net({"http://other.example": {}})
    ask(other, deb("a"), tracker="http://other.example")
    assert other.asked == [("http://other.example", None)]


def test_without_a_network_old_data_count_and_that_is_said(ask):
    ask(Net({TRACKER: {"a": {"CVE-1": state("open")}}}), deb("a"))
    found = ask(Net({TRACKER: FetchError("no connection")}), deb("a"), now=NOW + timedelta(days=9))
    assert ids(found.of(deb("a"), RELEASE)) == ["CVE-1"]
    assert found.notices == ("vulnerabilities of Debian packages are as known on 2026-03-01: no connection",)


def test_what_was_not_asked_is_not_called_free_of_vulnerabilities(ask):
    entries = [deb("a"), wheel("b")]
    found = ask(Net({TRACKER: FetchError("no connection")}), *entries)
    assert [found.of(entry, RELEASE) for entry in entries] == [None, None]
    assert len(found.notices) == 2
    assert all("not checked" in notice for notice in found.notices)


def test_without_an_address_the_way_to_one_is_named(ask):
    (notice,) = ask(Net({}), deb("a"), tracker=None).notices
    assert "TUNGSTEN_SECURITY_TRACKER" in notice


def told(identifier, fixed="2"):
    return {"a": {identifier: {"releases": {"bookworm": {"status": "resolved", "fixed_version": fixed}}}}}


@pytest.mark.parametrize(
    "data",
    [
        *([], {"a": {"CVE-1": {}}}, {"a": 1}, (b"<html>", None)),
        *(told("\x1b[2J"), told("CVE-1", "\x1b]0;x\x07"), told("\u202e")),
    ],
)
def test_a_tracker_that_is_none_is_a_notice(ask, data):
    (notice,) = ask(Net({TRACKER: data}), deb("a")).notices
    assert "not what was expected" in notice


@pytest.mark.parametrize(
    "data",
    [
        *([], {}, {"vulnerabilities": [{}]}, (b"<html>", None)),
        *(
            {"vulnerabilities": [{"id": name, "aliases": [], "fixed_in": fixed}]}
            for name, fixed in (("\x1b[2J", []), ("PYSEC-1", ["\x1b[2J"]))
        ),
    ],
)
def test_an_index_that_has_no_such_api_is_a_notice(ask, data):
    (notice,) = ask(Net({"http://user:secret@index.example/pypi/b/1/json": data}), wheel("b")).notices
    assert "1 of 1 wheels were not checked" in notice
    assert "secret" not in notice


def test_wheels_that_are_not_the_models_are_counted_apart(ask, tmp_path):
    """The summary of a lock counts the model's alone."""
    here = [one for one in packages(lock(wheel("b"))) if one.place == "image"]
    wanted = [*here, *(one._replace(place="server", package=wheel(name)) for one in here for name in "bcd")]
    (notice,) = look_up(wanted, Mirrors((), (), INDEX, None, NOW), cache=tmp_path, get=Net({})).notices
    assert notice.startswith("3 of 3 wheels (2 of them the server's) were not")


def test_an_index_without_the_api_is_not_asked_for_every_wheel(ask):
    net = Net({})
    found = ask(net, *(wheel(f"w{number}") for number in range(20)))
    assert len(net.asked) == 3
    assert "20 of 20 wheels" in found.notices[0]


GIT = GitCommit(url="https://git.example/b", commit="0" * 40)


@pytest.mark.parametrize(
    "own",
    [
        wheel("b", url="https://host.example/b-1-py3-none-any.whl"),
        wheel("b", path="dist/b-1-py3-none-any.whl"),
        source("b", url="https://host.example/b-1.tar.gz"),
        source("b", path="../b"),
        source("b", git=GIT),
    ],
    ids=lambda own: own.to_json(),
)
def test_nobody_is_asked_about_what_the_model_itself_brings(ask, own):
    """Its name may be private; and a project of the same name in the index is another one."""
    answer = {"vulnerabilities": [{"id": "CVE-1", "aliases": [], "fixed_in": []}]}
    net = Net({"http://user:secret@index.example/pypi/b/1/json": answer})
    found = ask(net, own)
    assert (net.asked, found.notices) == ([], ())
    of_the_index = wheel("b")
    found = ask(net, own, of_the_index)
    assert ids(found.of(of_the_index, RELEASE)) == ["CVE-1"]
    assert found.of(own, RELEASE) is None


def test_a_source_of_the_index_is_asked_for_as_a_wheel_is(ask):
    answer = {"vulnerabilities": [{"id": "CVE-1", "aliases": [], "fixed_in": []}]}
    found = ask(Net({"http://user:secret@index.example/pypi/b/1/json": answer}), source("b"))
    assert ids(found.of(source("b"), RELEASE)) == ["CVE-1"]


def test_with_further_indexes_nobody_is_asked_about_wheels(ask):
    net = Net({TRACKER: {}})
    found = ask(net, deb("a"), wheel("b"), source("c"), extra_indexes=("https://own.example/simple",))
    assert [url for url, _ in net.asked] == [TRACKER]
    assert found.of(wheel("b"), RELEASE) is None
    (notice,) = found.notices
    assert "further indexes may hold private names" in notice


def test_one_project_that_is_unknown_does_not_stop_the_others(ask):
    wheels = [wheel(f"w{number}") for number in range(20)]
    answers = {
        f"http://user:secret@index.example/pypi/{one.project}/1/json": {"vulnerabilities": []}
        for one in wheels[1:]
    }
    found = ask(Net(answers), *wheels)
    assert found.of(wheels[0], RELEASE) is None
    assert found.of(wheels[19], RELEASE) == ()
    assert "1 of 20 wheels" in found.notices[0]


def test_no_password_is_kept(ask, tmp_path):
    ask(Net({"http://user:secret@index.example/pypi/b/1/json": {"vulnerabilities": []}}), wheel("b"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"secret" in path.read_bytes() for path in files)


def test_a_cache_that_cannot_be_written_is_a_notice(ask, tmp_path):
    (tmp_path / "advisories").write_text("in the way")
    found = ask(Net({TRACKER: {"a": {"CVE-1": state("open")}}}), deb("a"))
    assert ids(found.of(deb("a"), RELEASE)) == ["CVE-1"]
    assert "can't be kept" in found.notices[0]


class TestKnownHere:
    def test_it_asks_nobody_and_says_how_old_it_is(self, ask, tmp_path):
        ask(Net({TRACKER: {"a": {"CVE-1": state("open")}}}), deb("a"))
        known = known_here(cache=tmp_path)
        assert ids(known.of(deb("a"), RELEASE)) == ["CVE-1"]
        assert known.of(wheel("b"), RELEASE) is None
        assert known.notices == (
            "vulnerabilities of Debian packages are as known on 2026-03-01",
            "vulnerabilities of wheels are not known here: no `tungsten lock` has been told them yet",
        )

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "source": ""}'])
    def test_a_damaged_cache_is_no_error(self, ask, tmp_path, text):
        (tmp_path / "advisories").mkdir()
        for name in ("debian.json", "python.json"):
            (tmp_path / "advisories" / name).write_text(text)
        assert known_here(cache=tmp_path).of(deb("a"), RELEASE) is None
        net = Net({TRACKER: {}, "http://user:secret@index.example/pypi/b/1/json": {"vulnerabilities": []}})
        assert ask(net, deb("a"), wheel("b")).notices == ()
