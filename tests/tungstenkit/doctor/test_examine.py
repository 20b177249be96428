"""All of it together: in order, at the same time, and without waiting for what hangs."""

import json
import threading

import pytest

from tungstenkit import lacks
from tungstenkit.cli import doctor
from tungstenkit.doctor import examine
from tungstenkit.doctor.examine import Examination, _together
from tungstenkit.doctor.finding import State, fine, lacking, unsure
from tungstenkit.lacks import Linux, Remedy

GOOD = fine(lacks.NIX, "2.26.3")
BAD = lacking(
    lacks.NAMESPACES, "refused", [Remedy("sysctl -w a.b=1", as_root=True), Remedy(says="or ask\nsomebody")]
)
WITHOUT = lacking(lacks.ENGINE, "none", [Remedy("apt-get install podman", "as apt has it", as_root=True)])


def test_parts_look_at_the_same_time_and_are_told_in_order():
    met = threading.Barrier(2, timeout=60)

    def first():
        met.wait()
        yield GOOD

    def second():
        met.wait()
        yield BAD
        yield WITHOUT

    assert list(_together([(lacks.NIX, first), (lacks.NAMESPACES, second)], 60)) == [GOOD, BAD, WITHOUT]


def test_what_hangs_is_told_as_such_with_what_it_had_found():
    gate = threading.Event()

    def hangs():
        yield GOOD
        gate.wait()

    found = list(_together([(lacks.STORE, hangs), (lacks.NAMESPACES, lambda: [BAD])], 0.2))
    gate.set()
    assert found[0] == GOOD
    assert (found[1].lack, found[1].state) == (lacks.STORE, State.UNSURE)
    assert found[2] == BAD


def test_a_defect_of_ours_is_not_hidden():
    def fails():
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        list(_together([(lacks.NIX, fails)], 60))


def test_no_server_is_asked_offline(monkeypatch):
    asked = []
    for name in ("kernel", "nix", "room", "engines", "programs", "network"):
        monkeypatch.setattr(examine, name, lambda *_, name=name: asked.append(name) or [GOOD])
    assert len(examine.examine(offline=True).findings) == 5
    assert "network" not in asked
    assert len(examine.examine().findings) == 6


@pytest.mark.parametrize(
    ("findings", "can_build"),
    [
        ((GOOD,), True),
        ((GOOD, WITHOUT), True),
        ((unsure(lacks.NIX, "?"),), True),
        ((GOOD, BAD, WITHOUT), False),
    ],
)
def test_only_what_every_build_needs_forbids_building(findings, can_build):
    assert Examination(Linux(), findings).can_build is can_build


def lines(*findings, **linux):
    return list(doctor.doctor_lines(Examination(Linux(**linux), findings)))


def test_each_thing_has_its_line_and_each_lack_what_mends_it():
    assert lines(
        GOOD, WITHOUT, BAD, unsure(lacks.CLOCK, "nobody says"), name="Debian 12", container="podman", wsl=2
    ) == [
        "Debian 12, in a container of podman and WSL2",
        "",
        "ok       Nix               2.26.3",
        "without  container engine  none",
        "lacks    user namespaces   refused",
        "?        clock             nobody says",
        "",
        f"user namespaces: {lacks.NAMESPACES.means}",
        "    sysctl -w a.b=1    # as root",
        "    or ask",
        "    somebody",
        "",
        f"container engine: {lacks.ENGINE.means}",
        "    apt-get install podman    # as root, as apt has it",
        "",
        "nothing can be built here for want of: user namespaces",
    ]


def test_the_end_says_whether_images_can_be_built():
    assert lines(GOOD)[-1] == "images can be built here"
    assert lines(GOOD, WITHOUT)[-1] == "images can be built here; without: container engine"


def test_what_others_have_said_is_text_alone():
    (line,) = [line for line in lines(fine(lacks.PROXY, "a\x1b[31mb\nc")) if "proxy" in line]
    assert line.endswith(r"a\x1b[31mb c")


@pytest.mark.parametrize(("findings", "status"), [((GOOD, WITHOUT), 0), ((BAD,), 1)])
def test_the_command(monkeypatch, capsys, findings, status):
    found = Examination(Linux(name="Debian 12", family="debian"), findings)
    monkeypatch.setattr(examine, "examine", lambda *, offline: found)
    from tungstenkit.cli.main import command_line

    for options in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            command_line("doctor")(["doctor", "--offline", *options], prog_name="tungsten")
        assert ended.value.code == status
        said = capsys.readouterr().out
    document = json.loads(said)
    assert document["can-build"] is (status == 0)
    assert document["system"] == {"name": "Debian 12", "family": "debian", "container": "", "wsl": 0}
    assert [one["name"] for one in document["findings"]] == [one.lack.name for one in findings]
    assert all(
        one.keys() == {"name", "state", "is-needed", "found", "means", "remedies"}
        for one in document["findings"]
    )
