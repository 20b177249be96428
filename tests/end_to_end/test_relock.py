"""A year later: everything is newer in the archive, and nothing of what a lock holds is there any more, neither in an
index nor in a pool. What the store has stays, and what a registry has; a fix of one package moves that one, and what it
drags along.
"""

import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.binaries import deb
from tests.end_to_end import bases
from tests.end_to_end.conftest import copy_example
from tests.end_to_end.harness import Build, succeed, tungsten
from tests.frozen import moved, take
from tests.frozen.archive import Deb
from tests.frozen.served import serve
from tests.machine import needs
from tungstenkit.lock.document import LOCK_NAME, packages, read_lock

CVE = "CVE-2026-0001"
FIRST = datetime(2026, 11, 30, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 30, 13, tzinfo=UTC)
LEAKY, FIXED = "1-1", "1-1+year"


@pytest.fixture(scope="module")
def days(folder):
    """The frozen archive with a program and its library, and the same a year later with one package more."""
    with tempfile.TemporaryDirectory(dir=take.TAKEN, prefix="archive-") as scratch:
        first = take.archive_of(take.TAKEN, Path(scratch) / "first")
        made = Path(scratch) / "made"
        for name, control in (
            ("leaky", {"Depends": f"libleaky1 (= {LEAKY})"}),
            ("libleaky1", {"Source": "libleaky"}),
        ):
            path = deb(
                made / f"{name}_{LEAKY}_amd64.deb", {f"usr/share/{name}": LEAKY.encode()}, control=control
            )
            first.add_deb(Deb.read(path), "trixie")
        first.publish(FIRST)
        yield first, Path(scratch)


def environment_of(served, folder):
    """What a command gets that knows this archive alone, and keeps what it reads for these tests."""
    return {
        **{name: value for name, value in served.environment.items() if value is not None},
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def ask_for(model, *names):
    """Have a model ask for more Debian packages."""
    path = model / "tungsten_model.py"
    text = path.read_text()
    start = text.index("system_packages=[") + len("system_packages=[")
    path.write_text(text[:start] + "".join(f'"{name}", ' for name in names) + text[start:])


@pytest.fixture(scope="module")
def model(days, folder):
    """examples/caption with the program, as it was locked and built on the first day."""
    first, _ = days
    model = copy_example("caption", folder / "caption")
    ask_for(model, "leaky")
    with serve(first) as served:
        environment = environment_of(served, folder)
        succeed("lock", model, env=environment)
        built = json.loads(succeed("build", model, "--no-load", "--json", env=environment))
    return model, Build(model, built)


@pytest.fixture(scope="module")
def later(days, model, folder):
    """The mirror a year later, by what names it to a command."""
    first, scratch = days
    needed = {one.name for one in packages(read_lock(model[0] / LOCK_NAME))}
    archive = moved.later(first, scratch / "year", "year", needed, post=".post1")
    for name, control in (("novelty", {"Depends": "novelty-data"}), ("novelty-data", {})):
        path = deb(scratch / "new" / f"{name}_1_amd64.deb", {f"usr/share/{name}": b"new"}, control=control)
        archive.add_deb(Deb.read(path), "trixie")
    archive.publish(LATER)
    with serve(archive) as served:
        state = {"status": "resolved", "fixed_version": FIXED, "urgency": "medium"}
        tracker = {"leaky": {CVE: {"releases": {"trixie": state}}}}
        (archive.folder / "tracker.json").write_text(json.dumps(tracker))
        yield environment_of(served, folder)


@pytest.fixture
def again(model, tmp_path):
    """A copy of the model with its lock."""
    return Path(shutil.copytree(model[0], tmp_path / "caption", ignore=shutil.ignore_patterns(".tungsten")))


def pins(folder):
    return {
        (one.system, one.place, one.name): (one.package.version, one.package.sha256)
        for one in packages(read_lock(folder / LOCK_NAME))
    }


def test_a_lock_of_what_asks_for_the_same_does_not_move_and_says_what_is_newer(again, later):
    """That of the tools neither, which all models share."""
    written = (again / LOCK_NAME).read_text()
    done = tungsten("lock", again, env=later)
    assert done.returncode == 0, done.stderr
    assert "nothing moved" in done.stderr, done.stderr
    assert (again / LOCK_NAME).read_text() == written
    assert "behind what is newer" in done.stderr
    assert "pins stay by their files' hashes, in no index any more: " in done.stderr
    assert "they move with tungsten, since all models share them" in done.stderr
    told = succeed("why", "libleaky1", again, env=later)
    assert f"{FIXED} is newer, seen on " in told
    assert f"fixed in {FIXED}" in succeed("why", "leaky", again, env=later)


def test_one_package_more_is_added_with_what_it_needs_and_nothing_else(again, later):
    before = pins(again)
    ask_for(again, "novelty")
    succeed("lock", again, env=later)
    after = pins(again)
    assert {name for _, _, name in after.keys() - before.keys()} == {"novelty", "novelty-data"}
    assert {key: after[key] for key in before} == before
    own = [deb for deb in read_lock(again / LOCK_NAME).platforms["x86_64-linux"].debs if deb.snapshot is None]
    assert {deb.name for deb in own} == {"novelty", "novelty-data"}


def test_a_fix_moves_what_it_concerns_and_what_that_drags_along_and_one_layer(again, later, model):
    before = pins(again)
    done = tungsten("lock", again, "--security", env=later)
    assert done.returncode == 0, done.stderr
    after = pins(again)
    changed = {key[2]: after[key][0] for key in before if after[key] != before[key]}
    assert changed == {"leaky": FIXED, "libleaky1": FIXED}
    assert f"leaky {LEAKY} -> {FIXED}: closes {CVE}" in done.stderr
    assert f"libleaky1 {LEAKY} -> {FIXED}: leaky {FIXED} depends on libleaky1 (= {FIXED})" in done.stderr
    answer = json.loads(succeed("build", again, "--no-load", "--json", env=later))
    old, new = model[1].layers, Build(again, answer).layers
    assert len(old) == len(new)
    assert sum(one != other for one, other in zip(old, new, strict=True)) == 1


def push(reference, model, environment):
    """Push an image with all that builds it; its digest."""
    line = ["push", reference, model, "--with-inputs", "--skopeo-arg=--dest-tls-verify=false"]
    return succeed(*line, env=environment).strip().rpartition("@")[2]


@needs("docker-registry", "skopeo", "curl")
def test_what_a_registry_has_kept_is_all_that_a_relock_and_both_builds_take(
    again, later, model, another_empty_store, tmp_path
):
    """On machines whose stores and caches are empty. The mirrors have the new packages alone, and the builds none."""
    unchanged, built = model
    before = pins(again)
    ask_for(again, "novelty")
    with bases.registry(tmp_path) as host:
        reference = f"{host}/team/caption"
        assert push(f"{reference}:1", unchanged, later) == built.digest
        there = later | {"TUNGSTEN_MIRROR_OCI": reference, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        succeed("lock", again, before=another_empty_store(), env=there)
        after = pins(again)
        assert {name for _, _, name in after.keys() - before.keys()} == {"novelty", "novelty-data"}
        assert {key: after[key] for key in before} == before
        digest = push(f"{reference}:2", again, later)
    alone, environment = bases.alone(tmp_path, host, another_empty_store())
    environment |= {"TUNGSTEN_MIRROR_OCI": reference, "XDG_CACHE_HOME": str(tmp_path / "another")}
    for folder, expected in ((unchanged, built.digest), (again, digest)):
        copy = shutil.copytree(folder, tmp_path / expected, ignore=shutil.ignore_patterns(".tungsten"))
        answer = succeed("build", copy, "--no-load", "--json", before=alone, env=environment)
        assert json.loads(answer)["digest"] == expected
