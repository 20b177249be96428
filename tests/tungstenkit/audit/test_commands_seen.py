"""What commands see of a model, and what they do not."""

import shutil
from pathlib import Path

import pytest

from tests.tungstenkit import locks
from tungstenkit.audit import commands_seen
from tungstenkit.lock.document import read_lock
from tungstenkit.lock.parts import Platform
from tungstenkit.platforms import this_system
from tungstenkit.spec.dockerfile import parse
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.files import select_files

EXAMPLE = Path(__file__).resolve().parent.parent.parent.parent / "examples" / "blur"
DOWNLOAD = "RUN --network=default fetch"


@pytest.fixture
def directory(tmp_path):
    """A model's folder."""
    shutil.copy(EXAMPLE / "tungsten_model.py", tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("data", "other", "sub/file"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def lock():
    """A lock of this machine's platform."""
    lock = read_lock(EXAMPLE / "tungsten.lock")
    platform = next(iter(lock.platforms.values()))
    return lock.model_copy(update={"platforms": {this_system(): platform}})


def spec(*lines):
    parsed = parse(lines)
    assert parsed.problems == []
    return locks.spec(commands=parsed.commands)


def files(directory):
    return select_files(directory, ["*"], [], "tungsten_model")


def seen(lock, directory, *lines):
    (platform,) = lock.platforms.values()
    return [one.sees for one in commands_seen.planned(spec(*lines), platform, directory, files(directory))]


def test_only_what_has_the_network_is_recorded(lock, directory):
    assert seen(lock, directory, "RUN a", "COPY data /x") == []
    assert len(seen(lock, directory, "RUN a", DOWNLOAD, "RUN b", DOWNLOAD)) == 2


def test_a_record_stands_for_what_was_seen_up_to_it(lock, directory):
    first = seen(lock, directory, "COPY data sub /x/", DOWNLOAD)
    assert seen(lock, directory, "COPY data sub /x/", DOWNLOAD, "RUN more") == first
    assert seen(lock, directory, "COPY data sub /x/\nRUN before", DOWNLOAD) != first
    assert seen(lock, directory, "# Why.", "COPY data  sub /x/", f"\n{DOWNLOAD}") == first
    (directory / "other").write_text("changed")
    assert seen(lock, directory, "COPY data sub /x/", DOWNLOAD) == first
    (directory / "sub" / "file").write_text("changed")
    assert seen(lock, directory, "COPY data sub /x/", DOWNLOAD) != first


def test_another_base_image_of_the_same_name_is_seen(lock, directory):
    def on(base):
        platforms = {
            system: platform.model_copy(update={"base_image": base})
            for system, platform in lock.platforms.items()
        }
        return seen(lock.model_copy(update={"platforms": platforms}), directory, DOWNLOAD)

    base = locks.base_image("1")
    others = [None, locks.base_image("2"), base.model_copy(update={"environment": {"A": "1"}})]
    assert len({one for other in [base, *others] for one in on(other)}) == 4
    assert on(base.model_copy(update={"reference": "other", "labels": {"a": "b"}})) == on(base)


@pytest.mark.parametrize("change", ["mode", "content"])
def test_a_file_counts_by_content_and_by_being_executable(lock, directory, change):
    first = seen(lock, directory, "COPY dat[a] /x/", DOWNLOAD)
    if change == "mode":
        (directory / "data").chmod(0o755)
    else:
        (directory / "data").write_text("changed")
    assert seen(lock, directory, "COPY dat[a] /x/", DOWNLOAD) != first


def test_a_field_of_the_spec_or_of_a_platform_that_nobody_has_called_unseen_is_seen(directory, lock):
    class NewSpec(ModelSpec):
        timezone: str = "UTC"

    class NewPlatform(Platform):
        timezone: str = "UTC"

    def digest(wanted, platform):
        return commands_seen.sees(wanted, platform, directory, files(directory), ())

    platform = next(iter(lock.platforms.values()))
    plain = locks.spec()
    new, other = (locks.spec(NewSpec, timezone=zone) for zone in ("UTC", "Europe/Berlin"))
    moved = NewPlatform(**dict(platform), timezone="Europe/Berlin")
    digests = {digest(one, platform) for one in (plain, new, other)} | {digest(plain, moved)}
    assert len(digests) == 4


def test_what_is_called_unseen_is_not_seen(directory, lock):
    platform = next(iter(lock.platforms.values()))
    changes = {"batch_size": 7, "name": "another", "mem_gb": 1, "examples": [{"text": "x"}]}
    one, other = (
        commands_seen.sees(wanted, platform, directory, files(directory), ())
        for wanted in (locks.spec(), locks.spec(**changes))
    )
    assert one == other
    assert ModelSpec.model_fields.keys() > commands_seen.UNSEEN  # no name is of a field that is gone
