"""What wheels install: in which order, who wins, what is refused, and that each is read once."""

import random
import zipfile
from types import SimpleNamespace

import pytest

from tests.binaries import wheel
from tests.tungstenkit.seal.test_libraries import SYSTEM, World
from tungstenkit.lock.parts import OVERLAP
from tungstenkit.sdk.errors import ResolveError
from tungstenkit.seal.installed import check_installed, install_order

MODULE = {"twin/__init__.py": "WHO = '{0}'\n", "twin/same.py": "", "{0}_only.py": ""}


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def twin(world, project, *needed_by):
    files = {name.format(project): text.format(project) for name, text in MODULE.items()}
    return world.wheel(project, files).model_copy(update={"needed_by": needed_by})


def check(world, *wheels):
    return check_installed(world.lock(*wheels), world.get, world.notices.append, cache=world.cache)


def yielding(lock):
    return {one.project: one.yields_to for one in lock.platforms[SYSTEM].wheels}


def package(name, *needed_by):
    return SimpleNamespace(project=name, needed_by=needed_by)


def test_of_two_with_one_module_the_one_that_pip_installs_last_wins(world):
    """Equals are installed from Z to A: of onnxruntime and onnxruntime-gpu the one for the CPU is what is there."""
    lock = check(
        world,
        twin(world, "twin", "albums"),
        twin(world, "twingpu", "python_packages: twingpu"),
    )
    assert yielding(lock) == {"twin": (), "twingpu": ("twin",)}
    (choice,) = [one for one in lock.choices if one.kind == OVERLAP]
    assert choice.subject == "twingpu, twin: both bring twin/__init__.py"
    assert choice.chosen == "twin"
    assert choice.reason == (
        "as pip does, which installs it last; twingpu is there for python_packages: twingpu, and twin for albums"
    )


def test_what_needs_another_comes_after_it(world):
    lock = check(world, twin(world, "a", "z"), twin(world, "z", "python_packages: z"))
    assert yielding(lock) == {"a": ("z",), "z": ()}


def test_equal_files_are_nobodys_loss(world):
    """Namespace packages do that; and a lock without overlaps is what it was."""
    lock = world.lock(
        world.wheel("a", {"shared/__init__.py": ""}), world.wheel("b", {"shared/__init__.py": ""})
    )
    assert check_installed(lock, world.get, world.notices.append, cache=world.cache) == lock
    assert world.notices == []


def test_more_files_are_counted_and_the_uppermost_is_named(world):
    files = [{f"m/{n}/{n}.py": text for n in range(3)} | {"m/z.py": text} for text in ("1", "2")]
    lock = check(world, world.wheel("a", files[0]), world.wheel("b", files[1]))
    assert [one.subject for one in lock.choices if one.kind == OVERLAP] == [
        "b, a: both bring m/z.py and 3 more"
    ]


def test_a_file_that_is_anothers_folder_is_refused(world):
    with pytest.raises(ResolveError) as caught:
        check(world, world.wheel("a", {"m": ""}), world.wheel("b", {"m/x.py": ""}))
    assert caught.value.what == "m is a file of a, and a folder of b"


def test_all_wheels_that_can_not_be_installed_are_named_with_a_line_each(world):
    bad = {"a\\b": ""}
    with pytest.raises(ResolveError) as caught:
        check(world, world.wheel("one", bad), world.wheel("fine", {}), world.wheel("two", bad))
    assert caught.value.what.splitlines() == [
        "one-1-py3-none-any.whl: a\\b: is no path inside the wheel",
        "two-1-py3-none-any.whl: a\\b: is no path inside the wheel",
    ]
    assert '"one!=1" to python_packages' in caught.value.hint
    assert '"two!=1" to python_packages' in caught.value.hint
    # What is wrong is looked at again: it may have been the disk's fault.
    assert len(list((world.cache / "installed").iterdir())) == 1


def test_a_wheel_is_read_once_and_its_notes_are_told_each_time(world):
    path = wheel(world.folder / "odd-1-py3-none-any.whl", {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("odd.py", "")
    odd = world.wheel("odd", {}).model_copy(update=world._file(path))
    for _ in range(2):
        check(world, odd)
    assert world.downloaded == ["odd-1-py3-none-any.whl"]
    odd_notes = "its RECORD does not say what 1 of its 4 files are, such as odd.py"
    notice = f"{path.name}: {odd_notes}; it is taken as it is, by the hash of the whole"
    assert world.notices == [notice, notice]


def test_packages_in_a_circle_have_an_order():
    names = [one.project for one in install_order([package("a", "b"), package("b", "a"), package("c", "a")])]
    assert sorted(names) == ["a", "b", "c"]
    assert names[0] == "c"


def test_the_order_is_pips_own():
    """Held to pip, where its own function is where it was: graphs at random, without circles."""
    resolver = pytest.importorskip("pip._internal.resolution.resolvelib.resolver")
    structs = pytest.importorskip("pip._vendor.resolvelib.structs")
    for seed in range(200):
        draw = random.Random(seed)
        names = [f"p{number}" for number in draw.sample(range(100), draw.randint(1, 12))]
        graph = structs.DirectedGraph()
        graph.add(None)
        for name in names:
            graph.add(name)
            graph.connect(None, name)
        needed_by = {name: [] for name in names}
        for number, name in enumerate(names):
            for other in draw.sample(names[:number], draw.randint(0, min(number, 3))):
                graph.connect(other, name)
                needed_by[name].append(other)
        expected = resolver.get_topological_weights(graph, set(names))
        order = [one.project for one in install_order([package(name, *needed_by[name]) for name in names])]
        assert order == sorted(names, key=lambda name: (expected[name], name), reverse=True)
