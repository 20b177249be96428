"""An image is proved wherever it went, and whatever is not as it was is refused, or told, by its name.

It is made of stand-ins, by an earlier release, for another kind of machine: nothing of it is executed.
"""

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.end_to_end.bases import registry as serve_registry
from tests.end_to_end.harness import build, free_port, nix, remove_images, succeed, tungsten
from tests.kept.laid_out import RELEASES, lay_out, name_tools
from tests.machine import need, needs
from tests.registry import registry as listing
from tests.tungstenkit.prove.images import digest, export_tar, keep, write_image
from tungstenkit.data import VERSION
from tungstenkit.fetch.bring import store_files
from tungstenkit.lock.document import LOCK_NAME, read_lock
from tungstenkit.lock.selection import part_of
from tungstenkit.nix_build.image import blob, read_layout, write_archive
from tungstenkit.platforms import ARCHITECTURES, this_system
from tungstenkit.registry.artifact import EXPORT, EXPORT_TAR, Artifact, Layer
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.registry.place import place as place_of

(FOREIGN,) = {*ARCHITECTURES} - {this_system()}
RELEASE = RELEASES[0]


@pytest.fixture(scope="module")
def export(folder, lock_of, frozen):
    """The export of a release, whose tools the frozen archive has."""
    made = lay_out(RELEASE, folder / "export", lock_of("caption"))
    name_tools(made, frozen.url)
    return made


@pytest.fixture(scope="module")
def layout(export, folder):
    """Its image, as Nix has built it."""
    name = f"path:{export}#packages.{this_system()}.model-image-{FOREIGN}-dir"
    nix("nix", "build", "--out-link", folder / "image", name)
    return (folder / "image").resolve()


@pytest.fixture(scope="module")
def files(export, layout):
    """All that it was built of, by paths of the store, with their names."""
    part = part_of(read_lock(export / LOCK_NAME), [FOREIGN], this_system())
    return {Path(file.path): file.name for file in store_files(part)}


@pytest.fixture(scope="module")
def pushed(layout, files, export, folder):
    """A layout that has the image, and all that was kept of it."""
    place = LayoutPlace(folder / "pushed")
    keep(place, layout, files, without_own(export, folder))
    return place.folder


def without_own(export, folder):
    """An export whose files that are its own are kept as inputs are, as one is that is pushed."""
    made = folder / "exported"
    shutil.copytree(export, made, ignore=shutil.ignore_patterns("files", "sources.json"))
    return made


@pytest.fixture
def copy(pushed, tmp_path):
    """A copy of that layout, to be changed; its place."""
    return LayoutPlace(shutil.copytree(pushed, tmp_path / "copy"))


@pytest.fixture(scope="module")
def registry(folder):
    """Debian's registry, which keeps no list of referrers; its address."""
    need("docker-registry", "skopeo")
    (folder / "registry").mkdir()
    with serve_registry(folder / "registry") as host:
        yield host


def verify(*arguments):
    done = tungsten("verify", *arguments, "--json")
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_a_layout_is_proved(pushed, layout):
    done = tungsten("verify", pushed)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(
        f"{pushed}@{read_layout(layout).digest} is proved: tungsten {RELEASE} builds it again"
    )


def test_what_was_proved_is_told_to_programs(pushed, layout, files):
    status, found, _ = verify(pushed)
    assert status == 0
    assert (found["verdict"], found["tungsten"], found["platform"]) == ("proved", RELEASE, FOREIGN)
    assert found["digest"] == found["rebuilt"] == read_layout(layout).digest
    assert found["inputs"]["files"] == len(files)
    assert found["layers"] == found["repacked"] == []
    # All of it was read where it is kept.
    assert found["read"] >= found["inputs"]["size"]


def test_an_archive_is_proved_by_what_is_kept_elsewhere(pushed, layout, tmp_path):
    write_archive(read_layout(layout), tmp_path / "image.tar")
    status, _, said = verify(tmp_path / "image.tar")
    assert (status, "no export is kept beside the image" in said) == (1, True)
    status, found, _ = verify(tmp_path / "image.tar", "--inputs", pushed)
    assert (status, found["verdict"]) == (0, "proved")


def skopeo(*arguments):
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run(["skopeo", "copy", "--quiet", *tls, *arguments], check=True)


def test_what_was_pushed_and_what_skopeo_has_copied_are_proved(layout, files, export, registry, tmp_path):
    reference = f"{registry}/team/echo:1"
    keep(place_of(reference), layout, files, without_own(export, tmp_path), tag="1")
    status, found, said = verify(reference)
    assert (status, found.get("verdict")) == (0, "proved"), said
    # Copies by other tools come without what was kept beside it.
    other = f"{registry}/others/echo:2"
    skopeo(f"docker://{reference}", f"docker://{other}")
    assert verify(other)[0] == 1
    status, found, said = verify(other, "--inputs", reference)
    assert (status, found.get("verdict")) == (0, "proved"), said


def test_what_podman_has_pushed_is_proved_and_that_it_is_packed_anew_is_said(layout, pushed, tmp_path):
    need("podman", "docker-registry")
    write_archive(read_layout(layout), tmp_path / "image.tar")
    loaded = f"localhost/verified-{free_port()}:1"
    identity = read_layout(layout).image_id.removeprefix("sha256:")
    # One of its own: of one that has the layers already, podman sends the manifest alone.
    with serve_registry(tmp_path) as host:
        target = f"{host}/podman/echo:1"
        try:
            for line in (
                ["load", "--quiet", "--input", tmp_path / "image.tar"],
                ["tag", identity, loaded],
                ["push", "--quiet", "--tls-verify=false", loaded, f"docker://{target}"],
            ):
                subprocess.run(["podman", *line], check=True, capture_output=True)
        finally:
            remove_images(loaded, identity)
        status, found, said = verify(target, "--inputs", pushed)
        assert (status, found.get("verdict")) == (0, "proved"), said
        assert found["digest"] != found["rebuilt"]
        assert found["repacked"]
        numbers = ", ".join(map(str, found["repacked"]))
        told = tungsten("verify", target, "--inputs", pushed).stdout
        assert f"an engine has packed layers {numbers} anew" in told


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_flipped_byte_in_an_input_is_refused_by_its_name(copy, files):
    path, name = next((path, name) for path, name in files.items() if name.startswith("tini_"))
    place = copy.path(digest(path.read_bytes()))
    flip(place)
    status, _, said = verify(copy.folder)
    assert status == 1
    assert f"error: {name}: this is not what its digest says" in said


def test_an_input_that_is_gone_is_told_by_its_name(copy, files):
    path, name = next((path, name) for path, name in files.items() if name.startswith("tini_"))
    copy.path(digest(path.read_bytes())).unlink()
    status, _, said = verify(copy.folder)
    assert (status, f"error: {name} is named there, and is not there" in said) == (1, True)


def test_a_flipped_byte_in_a_layer_is_refused_by_its_name(copy, layout):
    manifest = json.loads(blob(layout, read_layout(layout).digest).read_text())
    flip(copy.path(manifest["layers"][0]["digest"]))
    status, _, said = verify(copy.folder)
    assert status == 1
    assert "error: this is not what its digest says" in said
    assert "layer 1" in said


def with_export(copy, change, folder):
    """A layout whose image has another export kept beside it, changed by a function; its folder."""
    (old,) = copy.referrers(copy.resolve().digest, EXPORT)
    made = folder / "changed"
    made.mkdir()
    (layer,) = json.loads(copy.manifest(old.digest))["layers"]
    with tarfile.open(copy.path(layer["digest"])) as archive:
        archive.extractall(made, filter="tar")
    change(made)
    others = [one for one in copy._listed() if one.digest != old.digest]
    subject = copy.resolve()
    copy.say(others)
    copy.attach(Artifact(EXPORT, [Layer(export_tar(made), EXPORT_TAR)], subject))
    return copy.folder


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_flipped_byte_in_the_export_is_refused(copy):
    (old,) = copy.referrers(copy.resolve().digest, EXPORT)
    (layer,) = json.loads(copy.manifest(old.digest))["layers"]
    flip(copy.path(layer["digest"]))
    status, _, said = verify(copy.folder)
    assert (status, "error: the export (" in said and "this is not what its digest says" in said) == (1, True)


def test_a_hash_that_is_changed_in_the_lock_is_told_by_the_file(copy, files, tmp_path):
    path, name = next((path, name) for path, name in files.items() if name.startswith("tini_"))
    sha256 = digest(path.read_bytes()).removeprefix("sha256:")
    other = sha256[:-1] + ("0" if sha256[-1] != "0" else "1")
    changed = with_export(copy, lambda made: replace(made / LOCK_NAME, sha256, other), tmp_path)
    status, _, said = verify(changed)
    assert status == 1
    assert f"kept nowhere here:\n       {name} (sha256 {other})" in said


def test_a_file_that_is_changed_in_the_export_is_found_in_its_layer(copy, tmp_path):
    model = "model/tungsten_model.py"
    changed = with_export(copy, lambda made: replace(made / model, "what it is told", "something"), tmp_path)
    status, found, _ = verify(changed)
    assert (status, found["verdict"]) == (1, "differs")
    (layer,) = found["layers"]
    file = next(one for one in layer["files"] if one["path"] == "/app/tungsten_model.py")
    assert file["differs-in"] == ["content"]
    assert file["told"] == ['-"""Says what it is told."""', '+"""Says something."""']
    assert file["input"] == "the model's files"
    said = tungsten("verify", changed).stdout
    assert "/app/tungsten_model.py: content; of the model's files" in said


def changed_image(layout, folder, path, change):
    """An image like a built one, but for one file of a layer that `change` changes; the number of its layer."""
    known = read_layout(layout)
    config = json.loads(blob(layout, known.image_id).read_text())
    manifest = json.loads(blob(layout, known.digest).read_text())
    tars = [gzip.decompress(blob(layout, one["digest"]).read_bytes()) for one in manifest["layers"]]
    for number, data in enumerate(tars):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = [(one, archive.extractfile(one).read() if one.isreg() else b"") for one in archive]
        if path in {one.name for one, _ in members}:
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for one, content in members:
                    content = change(one, content) if one.name == path else content
                    one.size = len(content)
                    archive.addfile(one, io.BytesIO(content))
            tars[number] = out.getvalue()
            break
    made_of = [one["created_by"] for one in config["history"]]
    more = {key: config[key] for key in ("architecture", "created", "history")}
    write_image(folder, tars, made_of, config=config["config"], **more)
    return number + 1


@pytest.mark.parametrize("kind", ["content", "mode", "owner", "time"])
def test_a_file_that_is_changed_in_a_layer_is_named_with_its_package(layout, pushed, files, tmp_path, kind):
    def change(member, content):
        if kind == "mode":
            member.mode = 0o4755
        elif kind == "owner":
            member.uid = 1000
        elif kind == "time":
            member.mtime = 1_700_000_000
        return b"tini, and more\n" if kind == "content" else content

    path = "usr/share/doc/tini/kept"
    number = changed_image(layout, tmp_path / "image", path, change)
    status, found, said = verify(tmp_path / "image", "--inputs", pushed)
    assert (status, found.get("verdict")) == (1, "differs"), said
    (layer,) = found["layers"]
    assert (layer["first"], layer["second"]) == (number, number)
    (file,) = layer["files"]
    deb = next(name for name in files.values() if name.startswith("tini_"))
    assert (file["path"], file["differs-in"], file["input"]) == (f"/{path}", [kind], f"tini, {deb}")


def test_a_config_that_is_changed_is_told(layout, pushed, tmp_path):
    known = read_layout(layout)
    config = json.loads(blob(layout, known.image_id).read_text())
    manifest = json.loads(blob(layout, known.digest).read_text())
    tars = [gzip.decompress(blob(layout, one["digest"]).read_bytes()) for one in manifest["layers"]]
    more = {key: config[key] for key in ("architecture", "created", "history")}
    write_image(tmp_path / "image", tars, config=config["config"] | {"User": "0:0"}, **more)
    status, found, _ = verify(tmp_path / "image", "--inputs", pushed)
    assert (status, found["config"], found["layers"]) == (1, {"User": ["0:0", "65532:0"]}, [])


def test_what_is_nobody_s_only_rebuilds(copy, tmp_path):
    def change(made):
        path = made / "nix" / "default.nix"
        path.write_text(f"# Somebody's.\n{path.read_text()}")

    changed = with_export(copy, change, tmp_path)
    status, found, _ = verify(changed)
    assert (status, found["verdict"], found["tungsten"], found["unknown-parts"]) == (
        5,
        "rebuilds",
        None,
        ["nix"],
    )
    done = tungsten("verify", changed)
    assert "rebuilds, and is not proved" in done.stdout
    assert "nix of its export is of no tungsten that this one knows" in done.stdout


def test_two_images_are_told_apart(layout, pushed, tmp_path):
    def change(_member, _content):
        return b"other\n"

    number = changed_image(layout, tmp_path / "image", "usr/share/doc/tini/kept", change)
    done = tungsten("diff", pushed, tmp_path / "image", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["shared"]["layers"] == found["first"]["layers"] - 1
    ((layer,), packages) = found["layers"], found["packages"]
    assert (layer["first"], packages, found["config"]) == (number, [], {})
    assert [(one["path"], one["told"]) for one in layer["files"]] == [
        ("/usr/share/doc/tini/kept", ["-tini", "+other"])
    ]
    lines = tungsten("diff", pushed, tmp_path / "image").stdout.splitlines()
    assert "  /usr/share/doc/tini/kept: content" in "\n".join(lines)
    assert "they are the same image" in tungsten("diff", pushed, pushed).stdout


def test_a_model_that_was_built_here_is_told_apart_by_its_folder(caption, pushed):
    found = json.loads(tungsten("diff", caption.directory, pushed, "--json").stdout)
    assert (found["first"]["digest"], found["first"]["image"]) == (caption.digest, str(caption.directory))
    owners = {file["path"]: file["input"] for layer in found["layers"] for file in layer["files"]}
    assert owners["/app/tungsten_model.py"] == "the model's files"
    assert "numpy" in {one["name"] for one in found["packages"]}


def test_what_push_has_kept_proves_an_image_and_copies_of_it(caption, registry):
    """With a list of referrers in a registry and without; skopeo copies it to the one, and podman to the other."""
    need("podman")
    with listing() as other:
        pushed = [f"{host}/team/caption:1" for host in (registry, other.host)]
        copies = [f"{host}/copies/caption:1" for host in (other.host, registry)]
        tls = "--skopeo-arg=--dest-tls-verify=false"
        for reference in pushed:
            succeed("push", reference, caption.directory, "--with-inputs", tls)
            status, found, said = verify(reference)
            assert (status, found.get("verdict"), found.get("tungsten")) == (0, "proved", VERSION), said
            assert found["digest"] == found["rebuilt"] == caption.digest
        skopeo(f"docker://{pushed[0]}", f"docker://{copies[0]}")
        try:
            for line in (["pull", pushed[1]], ["push", pushed[1], f"docker://{copies[1]}"]):
                command = ["podman", line[0], "--quiet", "--tls-verify=false", *line[1:]]
                subprocess.run(command, check=True, capture_output=True)
        finally:
            remove_images(pushed[1])
        for reference, original in zip(copies, pushed, strict=True):
            status, found, said = verify(reference, "--inputs", original)
            assert (status, found.get("verdict"), found.get("rebuilt")) == (0, "proved", caption.digest), said


POST_BUILD = """
from pathlib import Path
from tungstenkit import BaseIO, define_model

class Text(BaseIO):
    text: str

@define_model(input=Text, output=Text)
class Echo:
    @staticmethod
    def post_build():
        Path("made.txt").write_text("made")

    def predict(self, inputs):
        return inputs
"""


def test_what_a_step_has_made_is_an_input_unless_it_is_run_again(tmp_path, lock_of):
    model = tmp_path / "model"
    model.mkdir()
    (model / "tungsten_model.py").write_text(POST_BUILD)
    shutil.copy(lock_of("blur"), model)
    succeed("lock", model)
    image = build(model)
    part = part_of(read_lock(model / LOCK_NAME), [this_system()], this_system())
    inputs = {Path(file.path): file.name for file in store_files(part)}
    place = LayoutPlace(tmp_path / "pushed")
    keep(place, image.layout, inputs, model / ".tungsten" / "export")
    status, found, said = verify(place.folder)
    assert (status, found.get("verdict")) == (0, "proved"), said
    status, again, said = verify(place.folder, "--rerun")
    assert (status, again.get("verdict")) == (0, "proved"), said
    assert again["inputs"]["files"] == found["inputs"]["files"] - 1


@needs("root")
def test_an_ordinary_user_proves_it_in_an_empty_store(pushed, somebody):
    """All that it takes is what was kept: no mirror answers."""
    theirs = shutil.copytree(pushed, somebody.home / "pushed")
    somebody.own(somebody.folder)
    nowhere = {name: "http://127.0.0.1:9" for name in os.environ if name.startswith("TUNGSTEN_MIRROR_")}
    done = tungsten("verify", theirs, before=somebody.before, env=nowhere)
    assert done.returncode == 0, done.stderr
    assert " is proved: " in done.stdout
    assert not [path for path in somebody.home.iterdir() if path.name.startswith("tungsten-held-")]
