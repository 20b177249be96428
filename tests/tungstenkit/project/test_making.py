"""What is made of a model's folder, and what is said of it where nothing is made."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests import generate
from tests.tungstenkit.observers import Told
from tungstenkit import data, store
from tungstenkit.fetch.needs import needed_files
from tungstenkit.lock.document import LOCK_NAME, read_lock, write_lock
from tungstenkit.nix_build.image import Image
from tungstenkit.project import making
from tungstenkit.project.folder import Project
from tungstenkit.project.making import check_written, make_image, make_shell
from tungstenkit.resolve import opened
from tungstenkit.run import shell
from tungstenkit.sdk.errors import BuildError, FetchError, LockError
from tungstenkit.spec.document import ModelSpec
from tungstenkit.watch import UNWATCHED


@pytest.fixture
def project(tmp_path):
    """Of a copy of an example."""

    def make(name, watch=UNWATCHED):
        folder = tmp_path / name
        shutil.copytree(generate.ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns(".tungsten"))
        return Project(folder, ModelSpec.from_json((folder / "spec.json").read_text()), watch)

    return make


def test_a_shell_is_there_while_what_post_build_sees_is_edited(project, monkeypatch):
    """It has nothing of what post_build makes."""
    iris = project("iris")
    with (iris.directory / "tungsten_model.py").open("a") as module:
        module.write("\nNEW = 1\n")
    with pytest.raises(LockError, match="post_build sees something else"):
        iris.checked_lock()
    monkeypatch.setattr(shell, "is_current", lambda link, stamp: True)
    assert make_shell(iris) == iris.state / "shell"


def test_each_build_names_the_programs_that_are_not_there(project, monkeypatch):
    told = Told()
    blur = project("blur", told)
    programs = {"pillow": {"programs": {"git": "for all", "tzdata": "for none"}}}
    monkeypatch.setattr(opened, "_table", lambda: programs)
    monkeypatch.setattr(making, "fetch_inputs", refused)
    for _ in range(2):
        with pytest.raises(LockError, match="far enough"):
            make_image(blur, None, "", "x86_64-linux")
    said = "pillow starts git for all: where you use that, add it to system_packages"
    assert told.notices == [said, said]


def test_images_of_all_platforms_are_made_once_it_is_told_what_that_takes(project, monkeypatch):
    told, made = Told(), []
    monkeypatch.setattr(making, "this_system", lambda: "x86_64-linux")
    monkeypatch.setattr(Project, "bring_nix", lambda project: None)
    monkeypatch.setattr(
        making, "missing_files", lambda lock: [*needed_files(lock)][:3] if lock.platforms else []
    )

    def make(project, engine, reference, system):
        made.append((reference, system, len(told.notices)))
        return system, f"the image for {system}"

    monkeypatch.setattr(making, "make_image", make)
    blur = project("blur", told)
    assert [*making.make_images(blur, "host/blur")] == ["aarch64-linux", "x86_64-linux"]
    assert made == [("host/blur", "aarch64-linux", 1), ("host/blur", "x86_64-linux", 1)]
    (notice,) = told.notices
    assert re.fullmatch(
        r"an index of aarch64-linux, x86_64-linux is pushed, so the image for aarch64-linux is built, too: 3 files "
        r"\(\d+ MB\) are fetched for that; `--platform x86_64-linux` pushes one image alone",
        notice,
    )
    monkeypatch.setattr(making, "missing_files", lambda lock: [])
    making.make_images(blur, "host/blur")
    assert "all that it takes is in the Nix store" in told.notices[1]
    # Of one there is nothing to tell.
    making.make_images(blur, "host/blur", "aarch64-linux")
    blur.lock_path.unlink()
    making.make_images(blur, "host/blur")
    assert [system for _, system, _ in made[4:]] == ["aarch64-linux", None]
    assert len(told.notices) == 2


def test_where_another_platform_s_image_can_not_be_made_it_is_said_which_can(project, monkeypatch):
    monkeypatch.setattr(making, "this_system", lambda: "x86_64-linux")
    monkeypatch.setattr(Project, "bring_nix", lambda project: None)
    monkeypatch.setattr(making, "missing_files", lambda lock: [])
    failing = "aarch64-linux"

    def make(project, engine, reference, system):
        if system == failing:
            raise BuildError("a step runs programs for it", hint="build it there")
        return system, "the image"

    monkeypatch.setattr(making, "make_image", make)
    with pytest.raises(BuildError) as caught:
        making.make_images(project("blur"), "host/blur")
    assert caught.value.hint == "build it there; `--platform x86_64-linux` pushes that image alone"
    failing = "x86_64-linux"
    with pytest.raises(BuildError) as caught:
        making.make_images(project("caption"), "host/caption")
    assert caught.value.hint == "build it there"


def refused(*_):
    raise LockError("far enough")


LAYOUT = f"/nix/store/{'0' * 32}-blur-layout"
OTHER = f"/nix/store/{'1' * 32}-blur-layout"


@pytest.fixture(autouse=True)
def _their_store(monkeypatch):
    """The store that these paths are of."""
    monkeypatch.setenv("NIX_STORE_DIR", "/nix/store")


@pytest.fixture
def builds(project, monkeypatch, tmp_path):
    """Builds blur by a Nix that only notes what it is asked for; says whether it was, and what was loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    def build_image(flake, system, link, view):
        asked.append(system)
        link.unlink(missing_ok=True)
        link.symlink_to(LAYOUT)
        return making.image_at(link)

    monkeypatch.setattr(making, "fetch_inputs", lambda *_: 1)
    monkeypatch.setattr(making, "have_inputs", lambda project, lock, systems, big, more: more == [LAYOUT])
    monkeypatch.setattr(making, "provide_result", lambda *_: None)
    monkeypatch.setattr(making, "build_image", build_image)
    for name in ("image_at", "read_layout"):
        monkeypatch.setattr(making, name, lambda link: Image(link, "sha256:aa", "sha256:bb", 1))
    monkeypatch.setattr(making, "has_image", lambda image, engine, reference: "loaded" in asked)
    monkeypatch.setattr(making, "load_image", lambda *_: asked.append("loaded"))
    monkeypatch.setattr(
        store, "is_held", lambda path, link: link.is_symlink() and str(link.readlink()) == path
    )

    def build(model, system="x86_64-linux"):
        asked[:] = [one for one in asked if one == "loaded"]
        make_image(model, "podman", "blur", system)
        return system in asked

    model = project("blur")
    (model.directory / "kept.bin").write_bytes(b"as it was")
    (model.directory / "link").symlink_to("kept.bin")
    assert build(model)
    return model, build, asked


def test_where_nothing_changed_nothing_is_built_and_nothing_loaded(builds):
    model, build, asked = builds
    assert not build(model)
    assert asked == ["loaded"]
    asked.clear()
    assert not build(model)
    assert asked == ["loaded"], "an image that was removed from the engine comes back"


def edit(model, _):
    with (model.directory / "tungsten_model.py").open("a") as file:
        file.write("\n")


def edit_within_its_times(model, _):
    """Neither the size nor any time that a program can set tells of it."""
    file = model.directory / "kept.bin"
    before = file.stat()
    file.write_bytes(b"as it is.")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit_a_big_file(model, patch):
    patch.setattr("tungstenkit.settings._BIG_FILE_MB", 1e-6)
    edit_within_its_times(model, patch)


def edit_the_lock(model, _):
    lock = read_lock(model.lock_path)
    release, about = next(iter(lock.releases.items()))
    moment = dict.fromkeys(about.timestamps, "20200101T000000Z")
    releases = {**lock.releases, release: about.model_copy(update={"timestamps": moment})}
    write_lock(lock.model_copy(update={"releases": releases}), model.lock_path)


def edit_what_is_ours(of):
    def change(model, patch):
        folder = model.directory.parent / of.lower()
        shutil.copytree(getattr(data, of), folder, ignore=shutil.ignore_patterns("__pycache__"))
        file = next(path for path in sorted(folder.rglob("*.py")) if path.stat().st_size)
        file.write_text(file.read_text() + "\n")
        patch.setattr(data, of, folder)

    return change


def forget_what_it_was_built_of(model, patch):
    """As a garbage collector does by `keep-derivations = false`, which leaves the image and takes its derivation."""
    known = making.image_at
    built = making.build_image

    def build_image(*arguments):
        patch.setattr(making, "image_at", known)
        return built(*arguments)

    def image_at(link):
        raise FetchError("Nix refused: its path is not valid")

    patch.setattr(making, "image_at", image_at)
    patch.setattr(making, "build_image", build_image)


@pytest.mark.parametrize(
    "change",
    [
        edit,
        edit_within_its_times,
        edit_a_big_file,
        edit_the_lock,
        lambda model, _: (model.directory / "new.txt").touch(),
        lambda model, _: (model.directory / "kept.bin").chmod(0o755),
        lambda model, _: (model.directory / "kept.bin").rename(model.directory / "link"),
        lambda model, _: model.spec.exclude_files.append("link"),
        lambda model, _: model.spec.input_schema.update(description="x"),
        edit_what_is_ours("NIX"),
        edit_what_is_ours("SERVER"),
        edit_what_is_ours("SDK"),
        lambda _, patch: patch.setattr("tungstenkit.nix_build.image.this_system", lambda: "aarch64-linux"),
        lambda model, _: (model.state / "image-x86_64-linux").unlink(),
        lambda model, _: relink(model.state / "image-x86_64-linux", OTHER),
        lambda model, _: (model.state / "image-x86_64-linux").rename(model.state / "image-aarch64-linux"),
        lambda _, patch: patch.setattr(making, "have_inputs", lambda *_: False),
        lambda _, patch: patch.setattr(store, "is_held", lambda *_: False),
        lambda _, patch: patch.setattr(making, "read_layout", lambda link: json.loads("")),
        lambda _, patch: patch.setattr(making, "read_layout", lambda link: {}["manifests"]),
        forget_what_it_was_built_of,
    ],
)
def test_whatever_changed_it_is_built_again(builds, monkeypatch, change):
    model, build, _ = builds
    assert not build(model)
    change(model, monkeypatch)
    assert build(model)


def relink(link, target):
    link.unlink()
    link.symlink_to(target)


def test_what_changed_while_it_was_exported_is_built_again(builds, monkeypatch):
    """What is noted is the export that was built, and not the folder as it was before."""
    model, build, _ = builds
    edit(model, None)
    text = (model.directory / "tungsten_model.py").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(making, "have_inputs", lambda *_: False)
        patch.setattr(making, "fetch_inputs", lambda *_: edit(model, None))
        assert build(model)
    (model.directory / "tungsten_model.py").write_text(text)
    assert build(model)


def test_a_note_that_can_not_be_written_is_no_failure(builds, monkeypatch, tmp_path):
    model, build, _ = builds
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build(model)
    assert build(model)


def test_a_lock_for_nixpkgs_has_no_shell(project):
    blur = project("blur")
    shutil.copyfile(generate.GOLDEN / "blur" / LOCK_NAME, blur.lock_path)
    with pytest.raises(LockError, match="for the package set nixpkgs") as caught:
        make_shell(blur)
    assert (
        caught.value.hint
        == "only Debian's packages have a development shell: `tungsten lock --package-set debian`"
    )


def check_archive(project, path):
    check_written(project, path, "an archive", "--archive=-")


def test_what_is_written_of_an_image_is_no_file_of_the_models(project, tmp_path, monkeypatch):
    """The next image would hold it, and be another."""
    blur = project("blur")
    monkeypatch.chdir(blur.directory)
    check_archive(blur, tmp_path / "image.tar")
    check_archive(blur, Path(".tungsten/image.tar"))
    with pytest.raises(BuildError, match="in its next image") as caught:
        check_archive(blur, Path("image.tar"))
    assert caught.value.hint is not None
    check_archive(blur, Path(caught.value.hint.split()[0]))
    with pytest.raises(BuildError, match="no such folder"):
        check_archive(blur, tmp_path / "none" / "image.tar")
    with pytest.raises(BuildError, match="this is a folder"):
        check_archive(blur, tmp_path)


def test_a_device_or_a_pipe_is_not_replaced_by_an_archive(project, tmp_path):
    blur = project("blur")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(BuildError, match="no file that could be replaced") as caught:
            check_archive(blur, path)
        assert "--archive=-" in str(caught.value.hint)


def test_an_archive_goes_where_a_link_leads_and_never_into_the_store(project, tmp_path, monkeypatch):
    """As that of --out-link, or `/dev/stdout`, which may be a pipe or a file."""
    blur = project("blur")
    monkeypatch.setattr(store, "place", lambda: str(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "image.tar").touch()
    (tmp_path / "result").symlink_to(tmp_path / "store" / "image.tar")
    with pytest.raises(BuildError, match="into the Nix store"):
        check_archive(blur, tmp_path / "result")
    read, write = os.pipe()
    try:
        with pytest.raises(BuildError, match="no file that could be replaced"):
            check_archive(blur, Path(f"/dev/fd/{write}"))
    finally:
        os.close(read)
        os.close(write)
