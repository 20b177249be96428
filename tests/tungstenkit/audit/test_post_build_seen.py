"""What post_build sees, and when its result is stale."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.tungstenkit import locks
from tungstenkit.audit.post_build_seen import Settings, check, planned, read_settings
from tungstenkit.data import VERSION
from tungstenkit.fetch import big_files
from tungstenkit.lock.parts import CommandResult, Tungsten
from tungstenkit.sdk.errors import LockError, TungstenError
from tungstenkit.spec.dockerfile import parse
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.files import select_files
from tungstenkit.tools import tool_module

HERE = locks.SYSTEM

MODULE = """
class Model:
    def post_build():
        {post_build}
    def predict(self, inputs):
        {predict}
"""


@dataclass
class Model:
    """A model's folder and what it declares."""

    folder: Path
    spec: ModelSpec = field(default_factory=lambda: locks.spec(has_post_build=True))

    @property
    def files(self):
        return select_files(self.folder, ["*"], [], "tungsten_model")

    def planned(self, platform, **sdk):
        return planned(self.spec, platform, self.folder, self.files, read_settings(self.folder), **sdk)

    def write(self, post_build="pass", predict="return []"):
        text = MODULE.format(post_build=post_build, predict=predict)
        (self.folder / "tungsten_model.py").write_text(text)

    def declare(self, **changes):
        self.spec = self.spec.model_copy(update=changes)


@pytest.fixture
def model(tmp_path):
    model = Model(tmp_path / "model")
    model.folder.mkdir()
    model.write()
    (model.folder / "helper.py").write_text("1")
    return model


@pytest.fixture
def platform():
    lock = locks.lock(locks.deb("one"), locks.wheel("two"), locks.source("three"))
    return lock.platforms[HERE]


def lock_with(entry, platform, system=HERE):
    lock = locks.lock()
    return lock.model_copy(update={"platforms": {system: platform.model_copy(update={"post_build": entry})}})


def test_what_it_sees_is_all_but_what_only_a_server_calls(model, platform):
    before = model.planned(platform)
    assert sorted(before.files) == ["helper.py", "tungsten_model.py"]
    model.write(predict="return [1]")
    assert model.planned(platform) == before
    model.write(post_build="print()")
    assert model.planned(platform).sees != before.sees


@pytest.mark.parametrize(
    "change",
    [
        {"debs": (locks.deb("one", "2"),)},
        {"wheels": (locks.wheel("two", "2"),)},
        {"wheels": ()},
        {"python": "3.9"},
        {"base_image": locks.base_image("1")},
        {"commands": (CommandResult(sees="0" * 64, size=1, sha256="1" * 64),)},
    ],
)
def test_packages_and_python_are_seen(model, platform, change):
    assert model.planned(platform.model_copy(update=change)).sees != model.planned(platform).sees


def test_another_base_image_of_the_same_name_is_seen(model, platform):
    one, other = (
        model.planned(platform.model_copy(update={"base_image": locks.base_image(digit)})) for digit in "12"
    )
    assert one.sees != other.sees


def test_variables_of_the_image_are_seen_and_what_only_a_container_has_is_not(model, platform):
    plain = model.planned(platform).sees
    model.declare(commands=parse(["EXPOSE 80"]).commands)
    assert model.planned(platform).sees == plain
    model.declare(commands=parse(["ENV SIZE=small"]).commands)
    small = model.planned(platform).sees
    model.declare(commands=parse(["ENV SIZE=large"]).commands)
    assert len({plain, small, model.planned(platform).sees}) == 3


@pytest.mark.parametrize(
    ("gpu", "commands", "digest"),
    [
        (False, [], "989a8f5f1fa6018b4423f5cfcb939631e9e18b2e0a9cc851a7bcc75871b2343f"),
        (True, [], "c464607a1f72e92a063614289092c996f7d802a4a9ac47615d97d937f99c8196"),
        (
            False,
            ["ENV A=b", "RUN --network=default echo", "COPY *.py /x/"],
            "378b197abf23bfab26d0e4ae31c1ffe69ec1044d647293e716e023bfd2aa3fc8",
        ),
    ],
)
def test_a_digest_moves_with_what_is_seen_alone(model, platform, gpu, commands, digest):
    """Those of the locks that there are: where one moves, every model's post_build runs again."""
    (model.folder / "helper.py").unlink()
    (model.folder / "tungsten_model.py").write_text("class Model:\n    pass\n")
    model.declare(gpu=gpu, commands=parse(commands).commands if commands else None)
    assert model.planned(platform, sdk="0.1.0").sees == digest


@pytest.mark.parametrize("maker", [None, "0.1.0", "0.1.9"])
def test_where_another_tungstens_sdk_is_all_that_has_changed_that_is_said(model, platform, maker):
    lock = lock_with(model.planned(platform, sdk=maker or "0.1.0"), platform)
    made_by = maker and Tungsten.this().model_copy(update={"version": maker})
    lock = lock.model_copy(update={"tungsten": made_by})
    said = rf"(?m)the SDK, which was that of tungsten {maker or '0.1.0'}, and is that of {VERSION}$"
    with pytest.raises(LockError, match=said):
        check(lock, model.spec, model.folder, model.files, "tungsten.lock")
    (model.folder / "helper.py").write_text("2")
    with pytest.raises(LockError, match=r"(?m): files helper.py$"):
        check(lock, model.spec, model.folder, model.files, "tungsten.lock")


def test_a_field_of_the_spec_that_nobody_has_called_unseen_is_seen(model, platform):
    class NewSpec(ModelSpec):
        timezone: str

    seen = {model.planned(platform).sees}
    for zone in ("UTC", "Europe/Berlin"):
        model.spec = locks.spec(NewSpec, has_post_build=True, timezone=zone)
        seen.add(model.planned(platform).sees)
    assert len(seen) == 3


def test_who_asked_for_a_package_is_not_seen(model, platform):
    (deb,) = platform.debs
    other = platform.model_copy(update={"debs": (deb.model_copy(update={"needed_by": ("x",)}),)})
    assert model.planned(other).sees == model.planned(platform).sees


def test_what_is_seen_here_is_what_builds_see(model, platform):
    """`describe` is by what a build compares the files with the lock."""
    (model.folder / "run.sh").write_bytes(bytes(2_000_000))
    (model.folder / "run.sh").chmod(0o755)
    (model.folder / "link").symlink_to("run.sh")
    describe = tool_module("lib/model_view.py").describe
    seen = model.planned(platform).files
    assert seen.keys() > {"link", "run.sh", "helper.py"}
    for name in ("link", "run.sh", "helper.py"):
        assert seen[name] == describe(model.folder / name)


def test_weights_are_not_read_again_to_tell_that_a_result_fits(model, platform, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(big_files, "_SETTLED", 0)
    (model.folder / "weights.bin").write_bytes(bytes(2_000_000))
    before = model.planned(platform)
    monkeypatch.delattr(big_files, "_hash")
    assert model.planned(platform) == before


def test_patterns_narrow_what_it_sees(model, platform):
    (model.folder / "pyproject.toml").write_text('[tool.tungsten.post-build]\nfiles = ["*.csv", "!b.csv"]\n')
    for name in ("a.csv", "b.csv"):
        (model.folder / name).write_text("")
    assert sorted(model.planned(platform).files) == ["a.csv", "tungsten_model.py"]


def test_wrong_settings_are_named_at_once(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.tungsten.post-build]\ncpu = "fast"\nenvironment = ["A=1"]\nfiles = 3\ntoken = "x"\n'
    )
    with pytest.raises(TungstenError) as caught:
        read_settings(tmp_path)
    assert len(caught.value.what.splitlines()) == 4
    for name in ("cpu", "environment", "files", "token"):
        assert name in caught.value.what


def test_settings_are_read(tmp_path):
    assert read_settings(tmp_path) == Settings()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.tungsten.post-build]\ncpu = "baseline"\nenvironment = ["B", "A", "A"]\nfiles = []\n'
    )
    assert read_settings(tmp_path) == Settings(True, ("A", "B"), ())


def test_a_stale_result_is_refused_with_what_changed(model, platform):
    lock = lock_with(model.planned(platform), platform)
    check(lock, model.spec, model.folder, model.files, "tungsten.lock")
    (model.folder / "helper.py").write_text("2")
    (model.folder / "new.txt").write_text("")
    with pytest.raises(LockError, match=r"stale.*files \+new.txt, helper.py"):
        check(lock, model.spec, model.folder, model.files, "tungsten.lock")


def test_settings_that_changed_are_named(model, platform):
    lock = lock_with(model.planned(platform), platform)
    (model.folder / "pyproject.toml").write_text(
        '[tool.tungsten.post-build]\ncpu = "baseline"\nenvironment = ["A"]\n'
    )
    with pytest.raises(LockError, match="environment A; cpu"):
        check(lock, model.spec, model.folder, model.files, "tungsten.lock")


@pytest.mark.parametrize(
    "change", [{"environment": ("AWS_SECRET_ACCESS_KEY",)}, {"baseline_cpu": True}, {"files": {}}]
)
def test_a_lock_decides_over_none_of_what_the_model_says(model, platform, change):
    """Such as which of the caller's variables a step gets, whatever the digest beside it."""
    entry = model.planned(platform)
    lock = lock_with(entry.model_copy(update=change), platform)
    with pytest.raises(LockError, match="stale"):
        check(lock, model.spec, model.folder, model.files, "tungsten.lock")
