"""The choice of Python and Debian release, with solves that succeed or fail as a test says."""

import ast
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.specifiers import SpecifierSet

from tests.tungstenkit.locks import SYSTEM, wheel
from tungstenkit import BaseIO, define_model
from tungstenkit.data import OWN_WHEELS
from tungstenkit.debian.release import RELEASES, pinned_fingerprints
from tungstenkit.debian.solution import DebSolution, Decision, ResolvedDeb
from tungstenkit.lock.document import read_lock
from tungstenkit.lock.parts import Choice, LockedRelease
from tungstenkit.platforms import Target
from tungstenkit.resolve import model, targets
from tungstenkit.resolve.compatible import glibc
from tungstenkit.resolve.model import resolve
from tungstenkit.resolve.newest import told as lines_of
from tungstenkit.resolve.pinned import Pinned
from tungstenkit.resolve.solver import Solver
from tungstenkit.sdk.define import definition_of
from tungstenkit.sdk.errors import FetchError, NothingFitsError, ResolveError, UnusableError
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.pins import LockFile

EXAMPLES = Path(__file__).resolve().parent.parent.parent.parent / "examples"
HASH = "0" * 64
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def runs_on(monkeypatch, major, minor):
    """Have a lock made by another Python; what else asks for the version still gets the true one."""
    here = SimpleNamespace(version_info=SimpleNamespace(major=major, minor=minor))
    monkeypatch.setattr(targets, "sys", here)


class FakeSolver:
    """Answers each question with one package; wheels fail for the Pythons in `without`."""

    def __init__(self, without=(), error=ResolveError, now=NOW):
        self.mirrors = SimpleNamespace(found=now)
        self.without = without
        self.error = error
        self.asked = []
        self.tried = []
        self.notices = []
        self.pinned = None
        self.releases = dict.fromkeys([*RELEASES], LockedRelease(suites=(), timestamps={}))

    def report(self, text):
        pass

    def read_ahead(self, targets, projects):
        pass

    def debs(self, target, groups, where, prefer):
        self.asked.append((target, {group: list(names) for group, names in groups.items()}))
        return solution(groups)

    def notice(self, text):
        self.notices.append(text)

    def packages(self, target, entries, where, previous, unbuildable=None):
        pins = previous.wheels if previous else ()

        def solve(requirements, constraints):
            return self.wheels(target, requirements, where, pins, constraints)

        written = {text: text for text in entries}
        return SimpleNamespace(
            lines=entries, written=written, solve=solve, split=lambda wheels: (tuple(wheels), (), [])
        )

    def wheels(self, target, requirements, where, prefer, constraints=()):
        if where == "python_packages":
            self.tried.append(target.python)
        if {target.python, target.system} & set(self.without) and where == "python_packages":
            raise self.error(f"nothing fits {target.python}", where=where)
        return ()


def solution(groups):
    debs = [
        ResolvedDeb(n, "1", "amd64", f"mirror://debian/pool/{n}_1_amd64.deb", 1, HASH, group)
        for group, names in groups.items()
        for n in names
    ]
    return DebSolution(debs, [Decision("alternative", "a | b", "a", "the first")])


def spec(**changes):
    """A declaration that asks for nothing."""
    base = ModelSpec.from_json((EXAMPLES / "blur" / "spec.json").read_text())
    return base.model_copy(update=changes)


def python_of(lock):
    ((python, release),) = {(platform.python, platform.release) for platform in lock.platforms.values()}
    return python, release


@pytest.mark.parametrize(
    ("here", "expected"),
    [((3, 11), ("3.11", "bookworm")), ((3, 13), ("3.13", "trixie")), ((3, 12), ("3.13", "trixie"))],
)
def test_the_python_that_locks_is_preferred_if_debian_has_it(monkeypatch, here, expected):
    runs_on(monkeypatch, *here)
    assert python_of(resolve(spec(), FakeSolver(), None)) == expected


def test_the_first_python_whose_whole_solve_succeeds_is_taken_and_the_lock_says_why(monkeypatch):
    runs_on(monkeypatch, 3, 11)
    lock = resolve(spec(), FakeSolver(without=["3.11"]), None)
    assert python_of(lock) == ("3.13", "trixie")
    assert lock.choices[0].kind == "python"
    assert "Python 3.11 failed: nothing fits 3.11" in lock.choices[0].reason


def test_the_pythons_that_another_tools_lock_file_is_for_come_first(monkeypatch):
    runs_on(monkeypatch, 3, 11)
    solver = FakeSolver()
    solver.pinned = Pinned(LockFile("uv.lock", (), SpecifierSet(">=3.12")), is_new=True)
    assert python_of(resolve(spec(), solver, None))[0] == "3.13"
    solver.without = ["3.13"]
    assert python_of(resolve(spec(), solver, None))[0] == "3.11"


def test_a_recorded_python_does_not_move_on_another_machine(monkeypatch):
    runs_on(monkeypatch, 3, 11)
    previous = read_lock(EXAMPLES / "caption" / "tungsten.lock")
    assert python_of(resolve(spec(), FakeSolver(), previous)) == ("3.13", "trixie")


@pytest.mark.parametrize(
    ("asked", "expected"), [("3.9", "3.9"), ("3.11", "3.11"), ("3", "3.13"), ("3.14", "3.14")]
)
def test_a_python_that_is_asked_for_is_taken(asked, expected):
    assert python_of(resolve(spec(python_version=asked), FakeSolver(), None))[0] == expected


def test_relocking_keeps_the_reason_too():
    previous = resolve(spec(), FakeSolver(), None)
    assert resolve(spec(), FakeSolver(), previous).choices == previous.choices


def test_a_python_that_debian_lacks_is_refused_with_what_there_is():
    with pytest.raises(ResolveError, match=r"Python 3\.15") as caught:
        resolve(spec(python_version="3.15"), FakeSolver(), None)
    assert "3.11 (bookworm), 3.13 (trixie), 3.9 (bullseye), 3.14 (forky)" in caught.value.hint
    assert "--package-set nixpkgs" in caught.value.hint
    assert "base_image may have another" in caught.value.hint


@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_a_python_that_debian_has_not_comes_with_its_own_image(python):
    with pytest.raises(ResolveError) as caught:
        resolve(spec(python_version=python), FakeSolver(), None)
    line = f"base_image='python:{python}-slim'"
    assert f"write {line} in define_model" in caught.value.hint
    assert pasted(line) == f"python:{python}-slim"


def pasted(line):
    """What `define_model` makes of an argument."""
    model = ast.parse(f"f({line})", mode="eval").body.keywords[0]

    class Nothing(BaseIO):
        pass

    class Model:
        def predict(self, inputs):
            return []

    arguments = {model.arg: ast.literal_eval(model.value)}
    return definition_of(define_model(Model, input=Nothing, output=Nothing, **arguments)).base_image


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Because foo==1.0 requires Python >=3.14 and", "python_version='3.14' takes Debian forky"),
        ("foo==1.0 requires Python >=3.12, <3.13", "base_image='python:3.12-slim' has Python 3.12"),
        ("but we only found wheels for `foo` (v1.0) with the following ABI tag: `cp310`", "python:3.10-slim"),
        ("foo==1.0 requires Python >=3.20", None),
        ("foo==1.0 requires Python >=3.10", None),
        ("because foo>=2 is not to be had", None),
    ],
)
def test_where_only_a_python_that_is_not_taken_unasked_would_do_it_is_named(said, hint):
    class Failing(FakeSolver):
        def wheels(self, target, requirements, where, prefer, constraints=()):
            raise NothingFitsError("nothing does", explanation=said, where=where, hint="loosen it")

    with pytest.raises(ResolveError) as caught:
        resolve(spec(), Failing(), None)
    assert caught.value.hint.startswith("loosen it")
    assert (hint or "") in caught.value.hint
    assert ("; " in caught.value.hint) is (hint is not None)
    with pytest.raises(ResolveError) as caught:
        resolve(spec(python_version="3.11"), Failing(), None)
    assert caught.value.hint == "loosen it"


def test_a_release_that_is_to_come_is_taken_where_it_is_asked_for_alone(monkeypatch):
    runs_on(monkeypatch, 3, 14)
    solver = FakeSolver()
    assert python_of(resolve(spec(), solver, None)) == ("3.13", "trixie")
    assert solver.notices == []
    lock = resolve(spec(), solver, None, python="3.14")
    assert python_of(lock) == ("3.14", "forky")
    assert {tools.byte_code.release for tools in lock.tools.values()} == {"forky"}
    assert {tools.layers.release for tools in lock.tools.values()} == {"trixie"}
    (notice,) = solver.notices
    assert "Debian forky, which is not final: its files are superseded within days" in notice
    assert "`tungsten fetch --to FOLDER`" in notice
    assert "trixie" in lock.releases
    # It stays where the model asks for nothing else.
    assert python_of(resolve(spec(), FakeSolver(), lock))[0] == "3.14"


@pytest.mark.parametrize(("python", "has"), [("3.9", False), ("3.11", False), ("3.13", True), ("3.14", True)])
def test_zones_with_old_names_are_in_every_image(python, has):
    """Until bookworm they are in `tzdata`."""
    solver = FakeSolver()
    resolve(spec(python_version=python), solver, None)
    _, groups = solver.asked[0]
    assert "tzdata" in groups["base"]
    assert ("tzdata-legacy" in groups["base"]) is has


def test_where_nothing_fits_every_try_is_told():
    with pytest.raises(ResolveError) as caught:
        resolve(spec(), FakeSolver(without=["3.9", "3.11", "3.13"]), None)
    assert "with Python 3.11: nothing fits 3.11" in caught.value.what
    assert "with Python 3.13: nothing fits 3.13" in caught.value.what


@pytest.mark.parametrize("error", [FetchError, UnusableError])
def test_what_no_other_python_would_mend_is_no_reason_to_try_one(error):
    """A broken network, and an index that can't be believed: else who answers for one chooses another Python."""
    solver = FakeSolver(without=["3.9", "3.11", "3.13"], error=error)
    with pytest.raises(error, match=r"^error: nothing fits 3\.\d+\n"):
        resolve(spec(), solver, None)
    assert len(solver.tried) == 1


def test_system_packages_are_a_group_of_their_own():
    solver = FakeSolver()
    resolve(spec(system_packages=["fonts-dejavu-core"]), solver, None)
    _, groups = solver.asked[0]
    assert list(groups) == ["base", "python", "system"]
    assert groups["system"][0] == "fonts-dejavu-core"


def test_with_system_packages_come_the_essential_ones_that_they_may_use():
    """Debian policy 3.8: packages do not name them among their dependencies."""
    solver = FakeSolver()
    lock = resolve(spec(system_packages=["git"]), solver, None)
    _, groups = solver.asked[0]
    assert {"coreutils", "sed", "grep"} <= set(groups["system"])
    assert [choice.chosen for choice in lock.choices if choice.kind == "essential"]
    solver = FakeSolver()
    resolve(spec(), solver, None)
    assert solver.asked[0][1]["system"] == []


def test_what_no_script_makes_is_told_with_the_command_that_does():
    command = "RUN localedef -i de_DE -f UTF-8 de_DE.UTF-8"
    for commands, told in (([], 1), ([command], 0), (["RUN true"], 1)):
        solver = FakeSolver()
        resolve(spec(system_packages=["locales"], dockerfile_commands=commands), solver, None)
        assert len([one for one in solver.notices if "to have it: RUN localedef" in one]) == told


def test_a_new_lock_is_not_sealed():
    assert resolve(spec(), FakeSolver(), None).sealed is False


FINAL = [release for release in RELEASES.values() if release.is_final]


@pytest.mark.parametrize("release", FINAL, ids=lambda release: release.codename)
def test_a_release_that_debian_no_longer_mends_is_noticed(release):
    last = datetime(*release.supported_until.timetuple()[:3], 23, 59, tzinfo=UTC)
    for now, told in ((NOW, []), (last, []), (last + timedelta(minutes=1), [release.supported_until])):
        solver = FakeSolver(now=now)
        resolve(spec(python_version=release.python), solver, None)
        assert solver.notices == [
            f"Python {release.python} is that of Debian {release.codename}, "
            f"which has had no security updates since {day}"
            for day in told
        ]


def test_python_on_the_command_line_overrides_and_stays_until_the_model_asks_for_something_else():
    asked = spec(python_version="3.13")
    lock = resolve(asked, FakeSolver(), None, python="3.11.2")
    assert python_of(lock)[0] == "3.11"
    assert lock.choices[0].reason == "--python='3.11'"
    assert python_of(resolve(asked, FakeSolver(), lock))[0] == "3.11"
    assert python_of(resolve(spec(python_version="3"), FakeSolver(), lock))[0] == "3.11"
    assert python_of(resolve(spec(python_version="3.9"), FakeSolver(), lock))[0] == "3.9"


BOTH = ["aarch64-linux", "x86_64-linux"]


def test_every_platform_has_the_first_python_that_fits_them_all(monkeypatch):
    runs_on(monkeypatch, 3, 13)

    class NoArmWheels(FakeSolver):
        def wheels(self, target, requirements, where, prefer, constraints=()):
            if (target.system, target.python) == ("aarch64-linux", "3.13") and where == "python_packages":
                raise ResolveError("nothing fits")
            return ()

    lock = resolve(spec(), NoArmWheels(), None, systems=BOTH)
    assert list(lock.platforms) == list(lock.server) == BOTH
    assert python_of(lock) == ("3.11", "bookworm")


def test_a_failure_of_one_platform_of_several_names_it():
    with pytest.raises(ResolveError, match=r"on aarch64-linux: nothing fits 3\.11"):
        resolve(spec(python_version="3.11"), FakeSolver(without=["aarch64-linux"]), None, systems=BOTH)


def test_a_choice_of_all_platforms_is_stated_once():
    choices = resolve(spec(), FakeSolver(), None, systems=BOTH).choices
    assert [choice.subject for choice in choices if choice.kind == "alternative"] == ["a | b"]


def on(monkeypatch, system):
    """Have this machine be another."""
    for module in (model, targets):
        monkeypatch.setattr(module, "this_system", lambda: system)


def test_without_a_wish_the_platforms_are_the_locks_or_this_machines(monkeypatch):
    on(monkeypatch, "x86_64-linux")
    lock = resolve(spec(), FakeSolver(), None)
    assert list(lock.platforms) == ["x86_64-linux"]
    both = resolve(spec(), FakeSolver(), lock, systems=BOTH)
    assert list(resolve(spec(), FakeSolver(), both).platforms) == BOTH


def test_there_are_tools_for_every_platform_that_locked_or_is_locked(monkeypatch):
    on(monkeypatch, "x86_64-linux")
    lock = resolve(spec(), FakeSolver(), None, systems=["aarch64-linux"])
    assert sorted(lock.tools) == BOTH
    on(monkeypatch, "aarch64-linux")
    assert sorted(resolve(spec(), FakeSolver(), lock).tools) == BOTH


def test_what_makes_layers_is_the_same_for_a_python_that_has_no_shared_pins():
    preferred = []

    class Asked(FakeSolver):
        def debs(self, target, groups, where, prefer):
            preferred.append((target.python, list(groups.values()), [deb.name for deb in prefer]))
            return super().debs(target, groups, where, prefer)

    resolve(spec(python_version="3.9"), Asked(), None, systems=["x86_64-linux"])
    kept = {python: names for python, groups, names in preferred if "python3.13-minimal" in groups[0]}
    assert "python3.13-minimal" in kept["3.13"]


def test_an_unknown_platform_is_refused_with_what_there_is():
    with pytest.raises(ResolveError, match="riscv64-linux") as caught:
        resolve(spec(), FakeSolver(), None, systems=["riscv64-linux"])
    assert "aarch64-linux" in caught.value.hint


def test_the_lock_holds_the_indexes_that_it_takes_from_and_no_others():
    lock = resolve(spec(python_version="3.11"), FakeSolver(), None)
    assert list(lock.releases) == ["bookworm", "trixie"]


def test_the_lock_says_who_asked_for_each_package():
    class Solving(FakeSolver):
        def wheels(self, target, requirements, where, prefer, constraints=()):
            needed_by = tuple(f"{where}: {text}" for text in requirements)
            return (wheel("x", needed_by=needed_by),) if where == "python_packages" else ()

        def debs(self, target, groups, where, prefer):
            once = {group: dict.fromkeys(names) for group, names in groups.items()}
            found = super().debs(target, once, where, prefer)
            whose = {name: group for group, names in groups.items() for name in names}
            debs = [replace(deb, requests=((whose[deb.name], deb.name),)) for deb in found.debs]
            return DebSolution([replace(debs[0], needed_by=("other",)), *debs[1:]], found.decisions)

    lock = resolve(spec(python_packages=["mine"], system_packages=["git", "sed"]), Solving(), None)
    (platform,) = lock.platforms.values()
    needed_by = {deb.name: deb.needed_by for deb in platform.debs}
    assert needed_by["base-files"] == ("base: base-files", "other")
    assert needed_by[f"python{platform.python}"] == (f"python: python{platform.python}",)
    assert needed_by["git"] == ("system_packages: git",)
    assert needed_by["sed"] == ("system_packages: sed",)
    assert needed_by["bash"] == ("essential: bash",)
    own = tuple(f"sdk: {text}" for text in OWN_WHEELS["sdk"]["requires"])
    assert platform.wheels[0].needed_by == tuple(sorted(["python_packages: mine", *own]))


def test_what_the_user_and_the_sdk_both_ask_for_is_said_of_both():
    both = OWN_WHEELS["sdk"]["requires"][0]

    class Solving(FakeSolver):
        def wheels(self, target, requirements, where, prefer, constraints=()):
            return (wheel("x", needed_by=(f"{where}: {both}",)),) if where == "python_packages" else ()

    (platform,) = resolve(spec(python_packages=[both]), Solving(), None).platforms.values()
    assert platform.wheels[0].needed_by == (f"python_packages: {both}", f"sdk: {both}")


def test_the_lock_holds_what_it_was_made_from():
    lock = resolve(spec(python_packages=["six"]), FakeSolver(), None)
    assert lock.inputs["python-packages"] == ["six"]


@pytest.mark.parametrize(
    ("written", "solved", "said"),
    [
        ("torch>=2", "torch==2.4.1+cpu", "python_packages: torch>=2"),
        ("other", "torch==2.4.1+cpu", "gpu: torch==2.4.1+cpu"),
    ],
)
def test_what_the_choice_of_cuda_made_of_a_requirement_is_still_the_users(written, solved, said):
    class Solving(FakeSolver):
        def wheels(self, target, requirements, where, prefer, constraints=()):
            return (wheel("torch", needed_by=(f"{where}: {solved}",)),) if where == "python_packages" else ()

    (platform,) = resolve(spec(python_packages=[written]), Solving(), None).platforms.values()
    assert platform.wheels[0].needed_by == (said,)


def test_what_the_sdk_requires_is_not_blamed_on_the_user(monkeypatch):
    def conflict(*arguments, **options):
        explanation = "you require old and pydantic>=2.7"
        raise NothingFitsError("nothing does", explanation=explanation, where="python_packages")

    monkeypatch.setattr("tungstenkit.resolve.python_packages.solve_wheels", conflict)
    with pytest.raises(ResolveError, match=r"The SDK, which is in every image, requires pydantic>=\S+\."):
        resolve(spec(), FakeSolver(), None)


class Choosing(FakeSolver):
    """Has one wheel, and something to say of its version."""

    def __init__(self, version, reason):
        super().__init__()
        self.version, self.reason = version, reason

    def packages(self, target, entries, where, previous, unbuildable=None):
        chosen = choice("older", "x is older than it could be", self.version, self.reason)
        packages = super().packages(target, entries, where, previous)
        packages.split = lambda wheels: ((wheel("x", self.version),), (), [chosen])
        return packages


def choice(kind, subject, chosen, reason):
    return Choice(kind=kind, subject=subject, chosen=chosen, reason=reason)


def older(lock):
    return [(one.chosen, one.reason) for one in lock.choices if one.kind == "older"]


def test_a_version_that_could_be_newer_is_told_when_it_is_chosen_and_not_when_it_is_kept():
    asked = spec(python_packages=["x"])
    newest = resolve(asked, FakeSolver(), None)
    first = resolve(asked, Choosing("1", "not 2: y 1 needs x<2"), newest)
    assert older(first) == [("1", "not 2: y 1 needs x<2")]
    # What is kept keeps its reason, whatever has come out since.
    assert older(resolve(asked, Choosing("1", "not 3: y 1 needs x<2"), first)) == older(first)
    silent = first.model_copy(update={"choices": newest.choices})
    assert older(resolve(asked, Choosing("1", "not 2"), silent)) == []
    assert older(resolve(asked, Choosing("1.5", "not 2"), first)) == [("1.5", "not 2")]


def test_what_is_told_of_versions_is_a_line_each_but_for_what_python_alone_holds_back():
    choices = [
        choice("older", "a is older than it could be", "1", "not 2: it is not for Python 3.11"),
        choice("older", "b is older than it could be", "1", "not 2: a 1 needs b<2"),
        choice("older", "c is older than it could be", "3", "not 4: it is not for Python 3.11"),
        choice("pre-release", "d is a pre-release", "1rc1", "there is no final release that can be had"),
        choice("place", "from team", "a, b", ""),
        choice("cuda", "gpu=False", "x", ""),
    ]
    assert list(lines_of(choices)) == [
        "b is older than it could be: 1, not 2: a 1 needs b<2",
        "d is a pre-release: 1rc1, there is no final release that can be had",
        "from team: a, b",
        "newer releases are not for Python 3.11: a 1 (not 2), c 3 (not 4)",
    ]


class TestReadingAhead:
    """Debian's indexes take a second of decompression each; so long uv is waited for, anyway. And what the lock before
    holds need not wait for uv to come to it."""

    @pytest.fixture
    def solver(self, monkeypatch):
        """A real one, whose packages wait until every index is being read."""
        begun = {name: threading.Event() for name in ("bookworm", "trixie")}
        read = []

        def fetch(release, architecture, *_arguments, **_options):
            read.append((release, architecture))
            begun[release].set()
            return SimpleNamespace(suites=(), timestamps={})

        class Reading(Solver):
            def packages(self, *arguments):
                assert all(event.wait(60) for event in begun.values())
                return FakeSolver.packages(self, *arguments)

            def wheels(self, *_):
                return ()

        monkeypatch.setattr("tungstenkit.resolve.solver.fetch_index", fetch)
        answer = SimpleNamespace(solve=lambda groups, *_, **__: solution(groups))
        monkeypatch.setattr("tungstenkit.resolve.solver.DebSolver", lambda index: answer)
        mirrors = SimpleNamespace(found=NOW, debian_bases={})
        made = Reading(mirrors, None, lambda _text: None, lambda _text: None, Path(), Path())
        return SimpleNamespace(solver=made, read=read, begun=begun)

    def test_indexes_are_read_while_wheels_are_solved_and_each_once(self, solver):
        systems = ["aarch64-linux", "x86_64-linux"]
        resolve(spec(python_version="3.11"), solver.solver, None, systems=systems)
        assert sorted(solver.read) == [
            (release, architecture)
            for release in ("bookworm", "trixie")
            for architecture in ("amd64", "arm64")
        ]

    def test_the_lock_has_every_index_that_was_read_ahead_of_time_or_not(self, solver, monkeypatch):
        monkeypatch.setattr(Solver, "read_ahead", lambda *_: None)
        for event in solver.begun.values():
            event.set()
        lock = resolve(spec(python_version="3.11"), solver.solver, None, systems=[SYSTEM])
        assert set(lock.releases) == {"bookworm", "trixie"}

    def test_pages_of_what_is_locked_are_read_before_anybody_asks(self):
        """Three that wait for one another: one after the other, none would ever be read."""
        together, read = threading.Barrier(3), set()

        class Pages:
            main_label = ""

            def project_files(self, project):
                together.wait(60)
                read.add(project)
                together.wait(60)
                return []

        solver = Solver(Pages(), None, lambda _text: None, lambda _text: None, Path(), Path())
        solver.read_ahead([], ["a", "b"])
        together.wait(60)
        together.wait(60)
        assert read == {"a", "b"}

    def test_the_servers_environment_is_solved_while_the_models_packages_are(self):
        """Each waits for the other."""
        both = threading.Barrier(2)

        class Waiting(FakeSolver):
            def wheels(self, target, requirements, where, prefer, constraints=()):
                if target.python == "3.11":
                    both.wait(60)
                return super().wheels(target, requirements, where, prefer, constraints)

        lock = resolve(spec(python_version="3.11"), Waiting(), None, systems=[SYSTEM])
        assert {environment.python for environment in lock.server.values()} == {"3.11"}

    def test_the_servers_is_for_the_python_that_comes_out(self):
        lock = resolve(spec(), FakeSolver(without={"3.13"}), None, systems=[SYSTEM])
        assert {environment.python for environment in lock.server.values()} == {
            platform.python for platform in lock.platforms.values()
        }

    def test_what_could_not_be_read_is_told_where_it_is_needed(self, solver, monkeypatch):
        def fail(*_arguments, **_options):
            raise FetchError("no mirror answers")

        monkeypatch.setattr("tungstenkit.resolve.solver.fetch_index", fail)
        for event in solver.begun.values():
            event.set()
        with pytest.raises(FetchError, match="no mirror answers"):
            resolve(spec(python_version="3.11"), solver.solver, None)


def test_each_release_has_what_an_image_of_it_takes():
    """A new entry of the table lacks the rest, and is told of it here."""
    assert len([one for one in RELEASES.values() if one.makes_layers]) == 1
    for name, release in RELEASES.items():
        for archive in ("debian", "debian-security"):
            assert pinned_fingerprints(name, archive), f"archive_keys.json has no key of {name} in {archive}"
        assert glibc(Target(SYSTEM, name, release.python)) == release.glibc
        # Two of one Python could not be told apart by it.
        assert [one.codename for one in RELEASES.values() if one.python == release.python] == [name]
        assert release.python in targets.OFFICIAL
