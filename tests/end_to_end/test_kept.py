"""What an earlier release has made: its export builds to its digest, its lock is used, and nothing moves in it."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.end_to_end.harness import nix, succeed, tungsten
from tests.frozen import take
from tests.frozen.archive import Deb
from tests.frozen.served import serve
from tests.kept.laid_out import RELEASES, lay_out, name_tools
from tungstenkit.data import VERSION
from tungstenkit.lock.document import LOCK_NAME, packages, parse_lock
from tungstenkit.nix_build.image import blob, read_layout
from tungstenkit.platforms import ARCHITECTURES, this_system

# Nothing of such an image is executed.
(FOREIGN,) = {*ARCHITECTURES} - {this_system()}
DIGESTS = {
    "0.1.0": {
        "aarch64-linux": "sha256:5093a41e40837847ad0e42d26f43f4b5657920cdb5337243d15fca23667b9f9c",
        "x86_64-linux": "sha256:6bda1610eb7c3bb609b4f952db4a6bd64597dee89c684540c682257b9c61a9db",
    },
    "0.2.0": {
        "aarch64-linux": "sha256:f78f63463a1d80d0ad671cedc2dfeaf487bdc51a661073da2ac18687dcaf3edb",
        "x86_64-linux": "sha256:3daf7c48657ab5b120ca228b25404ed34b52c17d2fa45d1528cd40f6a81e0518",
    },
}
"""By release and platform: never to be written anew."""


@pytest.fixture(scope="module", params=RELEASES)
def release(request):
    return request.param


@pytest.fixture(scope="module")
def kept(release, folder, lock_of):
    """The export of a release, in a folder, whose tools are those of today's frozen archive: they are in no image."""
    return lay_out(release, folder / release, lock_of("caption"))


@pytest.fixture(scope="module")
def sources(kept, frozen):
    """The export knows where its tools are."""
    name_tools(kept, frozen.url)


@pytest.mark.parametrize("platform", ARCHITECTURES)
@pytest.mark.usefixtures("sources")
def test_its_export_builds_by_itself_to_its_digest(release, kept, platform):
    # An image for this machine, where its module would be imported: a stand-in of a Python can't.
    unchecked = "" if platform == FOREIGN else ".unchecked"
    image = f"path:{kept}#packages.{this_system()}.model-image-{platform}-dir{unchecked}"
    nix("nix", "build", "--out-link", kept.with_name("image"), image)
    assert read_layout(kept.with_name("image")).digest == DIGESTS[release][platform]


@pytest.fixture(scope="module")
def model(release, kept, folder, frozen):
    """A model's folder as somebody has left it who had locked it and begun to build it by that release."""
    model = folder / "models" / release / "model"
    shutil.copytree(kept / "model", model)
    shutil.copy(kept / LOCK_NAME, model)
    # What a build of that release has written there beside links, which lead nowhere by now.
    shutil.copytree(kept, model / ".tungsten" / "export", ignore=shutil.ignore_patterns("files"))
    (model / ".tungsten" / ".gitignore").write_text("*\n")
    (model / ".tungsten" / "busy").touch()
    return model


@pytest.fixture(scope="module")
def mirror(kept, frozen):
    """An archive that has all that the lock names, and newer versions of it: those of the frozen archive."""
    with tempfile.TemporaryDirectory(dir=take.TAKEN, prefix="archive-") as scratch:
        archive = take.archive_of(take.TAKEN, Path(scratch) / "archive")
        lock = parse_lock((kept / LOCK_NAME).read_bytes(), LOCK_NAME)
        for located in packages(lock):
            path = kept / "files" / located.package.file.rpartition("/")[2]
            if path.exists() and located.kind == "deb":
                archive.add_deb(Deb.read(path), located.release)
            elif path.exists():
                archive.add_wheel(path)
        archive.publish()
        with serve(archive) as served:
            environment = dict(os.environ)
            served.set(environment)
            yield environment


def pins(path):
    """A lock but for its form, who has made it, and which day's indexes were read."""
    lock = json.loads(path.read_text())
    return {key: value for key, value in lock.items() if key not in ("lock-version", "releases", "tungsten")}


def layers_of(built):
    """The layers of what `build --json` has made."""
    image = read_layout(Path(json.loads(built.stdout)["layout"]))
    return json.loads(blob(image.layout, image.image_id).read_text())["rootfs"]["diff_ids"]


def test_its_lock_builds_and_is_written_anew_without_moving_a_pin(release, model, mirror):
    path = model / LOCK_NAME
    before = pins(path)
    checked = tungsten("lock", model, "--check", env=mirror)
    assert checked.returncode == 0, checked.stderr
    said = (
        "a tungsten before 0.2.0 has made the lock" if release == "0.1.0" else f"tungsten {release} has made"
    )
    assert said in checked.stderr
    first = tungsten("build", model, "--platform", FOREIGN, "--no-load", "--json", env=mirror)
    assert first.returncode == 0, first.stderr
    layers = layers_of(first)
    assert first.stderr.count(said) == 1
    succeed("lock", model, env=mirror)
    assert pins(path) == before
    assert json.loads(path.read_text())["tungsten"]["version"] == VERSION
    again = tungsten("build", model, "--platform", FOREIGN, "--no-load", "--json", env=mirror)
    # An image names its export, and so another lock; and it is dated by that.
    assert layers_of(again) == layers
    written = path.read_bytes()
    succeed("lock", model, env=mirror)
    assert path.read_bytes() == written
    assert "has made the lock" not in again.stderr
