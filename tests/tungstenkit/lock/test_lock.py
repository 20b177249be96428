"""The lock: its reader and writer, its versions, and when it is stale."""

import errno
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest

from tests import generate
from tests.tungstenkit import locks
from tungstenkit.data import NIX, VERSION
from tungstenkit.document import to_json
from tungstenkit.lock.document import LOCK_NAME, LOCK_VERSIONS, Lock, parse_lock, read_lock, write_lock
from tungstenkit.lock.selection import choose_platform, part_of
from tungstenkit.lock.stale import changed_inputs, check_lock, input_digest, made_from
from tungstenkit.lock.unpin import unpinned
from tungstenkit.sdk.errors import LockError
from tungstenkit.spec.document import DownloadWish, LockFileWish, ModelSpec

ROOT = Path(__file__).resolve().parent.parent.parent.parent
EXAMPLE = ROOT / "examples" / "caption"


@pytest.fixture
def lock():
    return read_lock(EXAMPLE / "tungsten.lock")


@pytest.fixture
def spec():
    return ModelSpec.from_json((EXAMPLE / "spec.json").read_text())


@pytest.mark.parametrize("example", generate.LOCKED_EXAMPLES, ids=lambda path: path.name)
def test_the_committed_locks_are_written_as_we_write_them(example, tmp_path):
    """Reading and writing gives the same bytes; so does validating the published schema's document."""
    write_lock(read_lock(example / "tungsten.lock"), tmp_path / "tungsten.lock")
    assert (tmp_path / "tungsten.lock").read_bytes() == (example / "tungsten.lock").read_bytes()


@pytest.mark.parametrize("example", generate.LOCKED_EXAMPLES, ids=lambda path: path.name)
def test_the_committed_locks_are_fresh_and_sealed(example):
    lock = read_lock(example / "tungsten.lock")
    check_lock(lock, ModelSpec.from_json((example / "spec.json").read_text()), example / "tungsten.lock")


def test_what_is_generated_and_committed_is_up_to_date():
    """`make schema` writes them."""
    for path, text in (
        generate.schemas() | generate.specs() | generate.golden_exports() | generate.pins()
    ).items():
        assert path.read_text() == text, f"{path} is out of date: run `make schema`, or `make pins`"


def test_no_lock_names_a_host():
    for example in generate.LOCKED_EXAMPLES:
        text = (example / "tungsten.lock").read_text()
        assert "http:" not in text
        assert "https:" not in text


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"python_packages": ["numpy", "scipy"]}, True),
        ({"system_packages": []}, True),
        ({"python_version": None}, True),
        ({"gpu": True}, True),
        ({"base_image": "debian:12"}, True),
        ({"has_post_build": True}, True),
        ({"batch_size": 1}, False),
        ({"mem_gb": 3}, False),
        ({"name": "other"}, False),
        ({"include_files": ["*.py"]}, False),
        ({"input_schema": {}}, False),
        ({"libraries": {"libGL.so.1": "libgl1"}}, True),
        ({"libraries": {"libGL.so.1": False}}, True),
        ({"libraries": {}}, False),
        ({"build": {"foo": {"debs": ["libfoo-dev"]}}}, True),
        ({"build": {}}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_lock_is_stale_when_what_it_resolves_changes(lock, spec, change, stale):
    changed = spec.model_copy(update=change)
    assert (input_digest(changed, "debian") != lock.input_digest) is stale


def test_a_stale_lock_is_refused_by_name(lock, spec):
    with pytest.raises(LockError, match="stale") as caught:
        check_lock(lock, spec.model_copy(update={"python_packages": []}), Path("model/tungsten.lock"))
    assert "tungsten lock" in caught.value.hint


def test_a_lock_that_is_not_sealed_is_refused(lock, spec):
    with pytest.raises(LockError, match="not sealed"):
        check_lock(lock.model_copy(update={"sealed": False}), spec, Path("tungsten.lock"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON object with the key `lock-version`"),
        ("[]", "no JSON object"),
        ("{}", "no JSON object"),
        ('{"lock-version": 3}', "lock-version 3 is of a newer tungsten"),
        ('{"lock-version": 0}', "lock-version 0 is not known"),
        ('{"lock-version": true}', "lock-version True is not known"),
        ('{"lock-version": 1}', "package-set: Field required"),
        ('{"lock-version": 2}', "package-set: Field required"),
    ],
)
def test_a_damaged_or_unknown_lock_is_refused(tmp_path, text, message):
    (tmp_path / "tungsten.lock").write_text(text)
    with pytest.raises(LockError, match=message) as caught:
        read_lock(tmp_path / "tungsten.lock")
    assert str(tmp_path / "tungsten.lock") in caught.value.where


def test_a_lock_of_a_newer_tungsten_says_to_update_this_one():
    with pytest.raises(LockError) as caught:
        parse_lock(b'{"lock-version": 99}', "tungsten.lock")
    assert caught.value.what == (
        f"lock-version 99 is of a newer tungsten than this one, {VERSION}, which reads 1 and 2"
    )
    assert caught.value.hint.startswith("update tungsten; or ")


def test_every_reader_of_locks_reads_the_same_versions():
    """`tests/nix/inputs` has it that nix/ reads those that it names."""
    assert get_args(Lock.model_fields["lock_version"].annotation) == LOCK_VERSIONS
    (nix,) = re.findall(r'"lock-version" \[([ \d]+)\]', (NIX / "inputs/documents.nix").read_text())
    assert tuple(map(int, nix.split())) == LOCK_VERSIONS


def test_a_lock_of_an_older_form_has_nothing_of_the_newer_one(lock):
    """Whoever reads version 1 alone would refuse it."""
    document = json.loads(lock.to_json()) | {"lock-version": 1}
    with pytest.raises(LockError, match="tungsten: not of lock-version 1"):
        parse_lock(json.dumps(document).encode(), "tungsten.lock")
    document.pop("tungsten")
    assert json.loads(parse_lock(json.dumps(document).encode(), "tungsten.lock").to_json()) == document


def test_a_lock_of_a_package_in_no_mirror_is_refused(tmp_path, lock):
    """A lock is reviewed as a list of files of mirrors; a URL must not slip in."""
    document = json.loads(lock.to_json())
    document["platforms"]["x86_64-linux"]["debs"][0]["file"] = "https://example.invalid/evil.deb"
    with pytest.raises(LockError, match=r"platforms.x86_64-linux.debs.0.file"):
        Lock.parse(json.dumps(document), where="tungsten.lock", error=LockError, hint="")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["platforms"], {}, "platforms: there is none"),
        (["platforms", "x86_64-linux", "python"], "3.99", "no python3.99"),
        (["platforms", "x86_64-linux", "release"], "sid", "releases.sid: missing"),
        (["server"], {}, "server.x86_64-linux: not there"),
        (["tools"], {}, "tools.x86_64-linux: missing"),
        (["releases"], {}, "releases.trixie: missing"),
        (["tools", "x86_64-linux", "busybox", "tree-sha256"], None, "no tree-sha256"),
        (["tools", "x86_64-linux", "byte-code", "python"], "3.12", "not of the images' Python"),
    ],
)
def test_a_lock_that_does_not_agree_with_itself_is_refused(lock, path, value, said):
    document = json.loads(lock.to_json())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(LockError) as caught:
        Lock.parse(json.dumps(document), where="tungsten.lock", error=LockError, hint="")
    assert said in caught.value.what


@pytest.mark.parametrize("kind", ["debs", "wheels"])
def test_an_entry_that_stands_twice_is_refused(lock, kind):
    document = json.loads(lock.to_json())
    entries = document["platforms"]["x86_64-linux"][kind]
    entries.append(entries[0])
    with pytest.raises(LockError, match="twice"):
        Lock.parse(json.dumps(document), where="tungsten.lock", error=LockError, hint="")


@pytest.mark.parametrize("kind", ["debs", "wheels"])
def test_a_version_that_is_not_the_files_is_refused(lock, kind):
    """A reviewer reads the version, a build takes the file."""
    document = json.loads(lock.to_json())
    document["platforms"]["x86_64-linux"][kind][0]["version"] = "99.0"
    with pytest.raises(LockError, match=r"is not that of .* 99\.0"):
        Lock.parse(json.dumps(document), where="tungsten.lock", error=LockError, hint="")


@pytest.mark.parametrize(
    "file", ["mirror://debian/pool/../../etc/x.deb", "mirror://npm/x.deb", "mirror://debian/x y.deb"]
)
def test_a_file_outside_of_the_archives_pool_is_refused(lock, file):
    document = json.loads(lock.to_json())
    document["platforms"]["x86_64-linux"]["debs"][0]["file"] = file
    with pytest.raises(LockError, match=r"file|pool"):
        Lock.parse(json.dumps(document), where="tungsten.lock", error=LockError, hint="")


def test_a_missing_lock_names_the_command(tmp_path):
    with pytest.raises(LockError) as caught:
        read_lock(tmp_path / "tungsten.lock")
    assert "tungsten lock" in caught.value.hint


def test_a_lock_that_cannot_be_written_is_an_error(lock, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    shutil.rmtree(folder)
    with pytest.raises(LockError, match="can't be written") as caught:
        write_lock(lock, folder / "tungsten.lock")
    assert "make that folder writable" in caught.value.hint


def test_a_full_disk_wants_room(lock, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LockError, match="No space left") as caught:
        write_lock(lock, tmp_path / "tungsten.lock")
    assert "make room" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"python-packages": ["a", "b"]}, {"python-packages": ["b", "c"]}, ["python_packages: +c -a"]),
        (
            {"python-packages": ["a", "b"]},
            {"python-packages": ["b", "a"]},
            ["python_packages: in another order"],
        ),
        ({"gpu": False}, {"gpu": True}, ["gpu: false -> true"]),
        ({"python-version": None}, {"python-version": "3.11"}, ["python_version: null -> 3.11"]),
        ({"gpu": True}, {"gpu": True}, []),
    ],
)
def test_what_changed_is_said_in_the_declarations_words(before, after, said):
    assert changed_inputs(before, after) == said


NOT_RESOLVED = {
    *("spec-version", "name", "module", "class", "batch-size", "gpu-mem-gb", "mem-gb", "examples"),
    *("has-setup", "has-predict-demo", "input-schema", "output-schema", "demo-output-schema"),
    *("include-files", "exclude-files"),  # what they ship is seen as files
    *("about", "compression"),  # of the image alone
    "commands",  # seen as `dockerfile-commands`
    "stream",
}
"""The keys of a spec that make no lock stale."""


def test_each_key_of_a_spec_makes_a_lock_stale_or_is_said_not_to():
    """A new one that is forgotten would leave a stale lock fresh."""
    every = locks.spec(
        files=[DownloadWish(url="https://host/x", sha256=None, to="x", executable=False)],
        lock_file=LockFileWish(file="uv.lock", sha256="0" * 64),
        indexes={"own": {"url": "https://host"}},
        libraries={"libGL.so.1": False},
        build={"a": {"debs": []}},
        nixpkgs={"libgl1": ["libGL"]},
    )
    resolved = made_from(every, "debian").keys() | made_from(every, "nixpkgs").keys()
    keys = {field.alias or name for name, field in ModelSpec.model_fields.items()}
    assert not resolved & NOT_RESOLVED
    assert keys == resolved - {"package-set"} | NOT_RESOLVED


def test_a_stale_lock_says_what_changed(lock, spec):
    before = made_from(spec, "debian")
    lock = lock.model_copy(update={"inputs": before, "input_digest": input_digest(spec, "debian")})
    check_lock(lock, spec, Path("tungsten.lock"))
    changed = spec.model_copy(update={"python_packages": [*spec.python_packages, "scipy"]})
    with pytest.raises(LockError, match=r"python_packages: \+scipy"):
        check_lock(lock, changed, Path("tungsten.lock"))


def test_a_digest_that_is_not_the_inputs_is_refused(lock):
    """A reviewer reads the inputs, `--check` compares the digest."""
    document = json.loads(lock.to_json()) | {"inputs": {"python-packages": ["something-else"]}}
    with pytest.raises(LockError, match="input-digest: is not that of inputs"):
        Lock.parse(json.dumps(document), where="tungsten.lock", error=LockError, hint="")


class TestUnpinned:
    LOCK = locks.lock(locks.deb("tzdata"), locks.deb("libdb5.3"), locks.wheel("tzdata"), locks.source("a-b"))

    def names(self, *names):
        (platform,) = unpinned(self.LOCK, names).platforms.values()
        wheels = [*platform.wheels, *platform.sources]
        return [deb.name for deb in platform.debs] + [wheel.project for wheel in wheels]

    @pytest.mark.parametrize(
        ("asked", "left"),
        [
            ([], ["tzdata", "libdb5.3", "tzdata", "a-b"]),
            (["tzdata"], ["libdb5.3", "a-b"]),
            (["libdb5.3"], ["tzdata", "tzdata", "a-b"]),
            (["A_B"], ["tzdata", "libdb5.3", "tzdata"]),
        ],
    )
    def test_the_named_ones_lose_their_pins_and_no_others(self, asked, left):
        assert self.names(*asked) == left

    def test_unknown_names_are_refused_all_at_once(self):
        with pytest.raises(LockError) as caught:
            self.names("tzdat", "flask", "setuptools", "a-b")
        first, second, third = caught.value.what.splitlines()
        assert first == "the lock has no package 'tzdat'; near: tzdata"
        assert "'flask' is the server's" in second
        assert "'setuptools' is what a source is built with" in third


BOTH = ROOT / "examples" / "blur"
AMD64, ARM64 = "x86_64-linux", "aarch64-linux"


@pytest.mark.parametrize(
    ("example", "asked", "here", "chosen"),
    [
        (BOTH, ARM64, AMD64, ARM64),
        (BOTH, None, AMD64, AMD64),
        (BOTH, None, ARM64, ARM64),
        (EXAMPLE, None, ARM64, AMD64),
    ],
)
def test_the_platform_is_the_one_asked_for_or_this_machines_or_the_only_one(example, asked, here, chosen):
    assert choose_platform(read_lock(example / "tungsten.lock"), asked, here) == chosen


@pytest.mark.parametrize(
    ("example", "asked", "here", "hint"),
    [
        # The platforms that are there stay in the lock.
        (EXAMPLE, ARM64, AMD64, f"tungsten lock --platform {ARM64} --platform {AMD64}"),
        (EXAMPLE, "riscv64-linux", AMD64, f"images can be made for {AMD64}, {ARM64}"),
        (BOTH, None, "riscv64-linux", f"{ARM64}, {AMD64}"),
    ],
)
def test_a_platform_that_can_not_be_chosen_says_what_there_is(example, asked, here, hint):
    with pytest.raises(LockError) as caught:
        choose_platform(read_lock(example / "tungsten.lock"), asked, here)
    assert hint in caught.value.hint
    assert caught.value.where == "--platform"


def test_a_part_of_a_lock_has_one_builders_tools_and_the_platforms_asked_for():
    lock = read_lock(BOTH / "tungsten.lock")
    part = part_of(lock, [ARM64], AMD64)
    assert part.platforms == {ARM64: lock.platforms[ARM64]}
    assert part.server == {ARM64: lock.server[ARM64]}
    assert part.tools == {AMD64: lock.tools[AMD64]}


@pytest.mark.parametrize(("here", "hint"), [(ARM64, "tungsten lock"), ("x86_64-darwin", "x86_64-linux")])
def test_a_lock_without_tools_for_this_machine_says_how_to_get_them(lock, here, hint):
    with pytest.raises(LockError, match=here) as caught:
        part_of(lock, [AMD64], here)
    assert hint in caught.value.hint


def test_a_wheel_for_every_platform_counts_as_the_builders():
    """What builds it is the builder's, so nobody needs another platform's compiler."""
    sealed = {"wheel": "lib-1-py3-none-any.whl", "wheel_size": 1, "wheel_sha256": "3" * 64}
    mine, others = (
        locks.source("lib", **sealed),
        locks.source("lib", needed_by=("python_packages: ./lib",), **sealed),
    )
    one = locks.lock(mine)
    platform = one.platforms[locks.SYSTEM].model_copy(update={"sources": (others,)})
    two = one.model_copy(
        update={
            "platforms": {**one.platforms, "aarch64-linux": platform},
            "server": {**one.server, "aarch64-linux": one.server[locks.SYSTEM]},
        }
    )
    assert part_of(two, ["aarch64-linux"], locks.SYSTEM).platforms["aarch64-linux"].sources == (mine,)


def test_a_sealed_lock_has_what_post_build_made():
    """And without it a build would find out late."""
    example = read_lock(generate.ROOT / "examples" / "iris" / LOCK_NAME)
    (platform,) = example.platforms.values()
    assert platform.post_build.file == f"post-build-{platform.post_build.sees[:16]}.tar"
    text = example.to_json()
    assert Lock.model_validate_json(text) == example
    written = json.loads(text)
    del written["platforms"][locks.SYSTEM]["post-build"]
    with pytest.raises(ValueError, match="without a result of post_build"):
        Lock.model_validate_json(json.dumps(written))


def test_what_post_build_made_can_be_unpinned_by_name():
    example = read_lock(generate.ROOT / "examples" / "iris" / LOCK_NAME)
    (platform,) = unpinned(example, ["post_build"]).platforms.values()
    assert platform.post_build is None
    assert platform.wheels == example.platforms[locks.SYSTEM].wheels
    with pytest.raises(LockError, match="no result of post_build"):
        unpinned(read_lock(generate.ROOT / "examples" / "blur" / LOCK_NAME), ["post_build"])


def test_what_a_base_image_and_a_command_say_may_have_any_letter(lock):
    image = locks.base_image().model_copy(update={"environment": {"PS1": "\x1b[1m"}, "labels": {"a": "\x9b"}})
    platforms = {name: one.model_copy(update={"base_image": image}) for name, one in lock.platforms.items()}
    made_from = lock.inputs | {"dockerfile-commands": ["RUN printf '\x1b[1m'"]}
    whole = lock.model_copy(
        update={"platforms": platforms, "inputs": made_from, "input_digest": digest_of(made_from)}
    )
    assert parse_lock(whole.to_json().encode(), "x") == whole
    shown = changed_inputs(made_from, made_from | {"dockerfile-commands": []})
    assert "\\u001b" in shown[0]
    assert "\x1b" not in shown[0]


def digest_of(made_from):
    return f"sha256:{hashlib.sha256(to_json(made_from).encode()).hexdigest()}"
