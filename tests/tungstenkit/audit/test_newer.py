"""What was seen that is newer than a pin is kept for commands that use no network."""

from datetime import UTC, datetime, timedelta

from tests.tungstenkit.locks import SYSTEM, deb, lock, wheel
from tungstenkit.audit.newer import Newer, keep_newer, known_newer
from tungstenkit.audit.vulnerabilities import Advisories
from tungstenkit.audit.why import why
from tungstenkit.resolve.relocked import OneVersion

NOW = datetime(2026, 3, 1, tzinfo=UTC)
A, W = OneVersion(SYSTEM, "deb", "a", "1"), OneVersion(SYSTEM, "wheel", "w", "1")


def versions(folder):
    return {name: one.version for name, one in known_newer(cache=folder).seen.items()}


def test_a_later_lock_of_the_same_says_it_anew(tmp_path):
    assert known_newer(cache=tmp_path) == Newer()
    keep_newer(lock(deb("a"), wheel("w")), {A: "2", W: "3"}, NOW, cache=tmp_path)
    assert versions(tmp_path) == {" ".join(A): "2", " ".join(W): "3"}
    # Of another model's packages it says nothing, and what no lock has is nobody's.
    keep_newer(lock(wheel("w")), {W: "4", A: "9"}, NOW, cache=tmp_path)
    assert versions(tmp_path) == {" ".join(A): "2", " ".join(W): "4"}
    keep_newer(lock(wheel("w")), {}, NOW, cache=tmp_path)
    assert versions(tmp_path) == {" ".join(A): "2"}


def test_it_is_forgotten_when_nobody_has_asked_for_long(tmp_path):
    keep_newer(lock(deb("a")), {A: "2"}, NOW, cache=tmp_path)
    keep_newer(lock(wheel("w")), {W: "2"}, NOW + timedelta(days=91), cache=tmp_path)
    assert versions(tmp_path) == {" ".join(W): "2"}


def test_what_is_damaged_is_as_if_it_were_not_there(tmp_path):
    (tmp_path / "newer.json").write_text("{")
    assert known_newer(cache=tmp_path) == Newer()
    keep_newer(lock(deb("a")), {A: "2"}, NOW, cache=tmp_path)
    assert versions(tmp_path) == {" ".join(A): "2"}


def test_why_shows_it(tmp_path):
    locked = lock(deb("a"), deb("b"))
    keep_newer(locked, {A: "2"}, NOW, cache=tmp_path)
    seen = known_newer(cache=tmp_path)
    (reason,) = why(locked, "a", Advisories(), seen)
    assert (reason.newer.version, reason.newer.checked) == ("2", NOW)
    (reason,) = why(locked, "b", Advisories(), seen)
    assert reason.newer is None
