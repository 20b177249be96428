"""Real builds of the examples, each locked and built once a session, of the frozen archive."""

import functools
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.end_to_end.everything import make as make_everything
from tests.end_to_end.harness import ENGINE, ROOT, build, remove_images, succeed
from tests.end_to_end.somebody import Somebody
from tests.end_to_end.targets import MODEL
from tests.frozen.take import PYTHON
from tests.machine import need, needs
from tungstenkit.lock.document import LOCK_NAME


def pytest_collection_modifyitems(items):
    """What builds images is left out where that can't be. What takes more than that says so itself."""
    builds = needs("nix", "namespaces")
    for item in items:
        # What runs without a container needs none of them.
        local = hasattr(item, "callspec") and item.callspec.params.get("kind") == "local"
        if Path(__file__).parent in item.path.parents and not local:
            item.add_marker(pytest.mark.nix)
            item.add_marker(builds)


@pytest.fixture(scope="session", autouse=True)
def _mirrors(frozen):
    """All that these tests start knows the frozen archive, and no other."""
    frozen.set()


@pytest.fixture(scope="session")
def lock_of(tmp_path_factory):
    """Locks an example for some platforms, once; where the lock is. The committed one names files that may be gone."""

    @functools.cache
    def lock(name, *systems):
        folder = copy_example(name, tmp_path_factory.mktemp("locked") / name)
        python = (
            [] if "python_version" in (folder / "tungsten_model.py").read_text() else ["--python", PYTHON]
        )
        succeed("lock", folder, *python, *(f"--platform={system}" for system in systems))
        return folder / LOCK_NAME

    return lock


@pytest.fixture(scope="session")
def copy_of(tmp_path_factory, lock_of):
    """Makes a copy of an example in a fresh folder, with its lock."""

    def copy(name, *systems):
        folder = copy_example(name, tmp_path_factory.mktemp("model") / name)
        shutil.copy(lock_of(name, *systems), folder)
        return folder

    return copy


def copy_example(name, folder):
    """An example without a lock."""
    return shutil.copytree(
        ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns(".tungsten", LOCK_NAME)
    )


@pytest.fixture(scope="module")
def folder():
    """A folder that every user may read."""
    made = Path(tempfile.mkdtemp(prefix="tungsten-"))
    made.chmod(0o755)
    yield made
    # A store's folders can't be written by their owner.
    subprocess.run(["chmod", "-R", "u+w", made], check=True)
    shutil.rmtree(made)


@pytest.fixture
def another_empty_store(tmp_path):
    """Makes command prefixes, each with an `empty_store` of its own."""
    need("root", "/nix")
    pool = "var/nix/userpool"
    made = []

    def make():
        folder = tmp_path / f"nix-{len(made)}"
        made.append(folder)
        (folder / pool).mkdir(parents=True)
        Path("/nix", pool).mkdir(parents=True, exist_ok=True)
        script = f'mount --bind /nix/{pool} {folder}/{pool} && mount --rbind {folder} /nix && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh"]

    yield make
    # Nix makes its stores read-only.
    for folder in made:
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)


@pytest.fixture
def empty_store(another_empty_store):
    """A command prefix under which /nix is an empty folder of its own, in a private mount namespace.

    Which of the machine's build users are taken is noted where every Nix here looks: each ends all that its user runs.
    """
    return another_empty_store()


@pytest.fixture
def somebody():
    """A user of a machine without `/nix`."""
    made = Path(tempfile.mkdtemp(prefix="tungsten-"))
    made.chmod(0o755)
    somebody = Somebody(made / "user", has_store=False)
    tried = subprocess.run([*somebody.before, "unshare", "-r", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"this kernel gives an ordinary user no namespaces: {tried.stderr.strip()}")
    yield somebody
    # A store's folders can't be written by their owner.
    subprocess.run(["chmod", "-R", "u+w", made], check=True)
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def blur(copy_of):
    """examples/blur: Python 3.11 on Debian 12."""
    return build(copy_of("blur"))


@pytest.fixture(scope="session")
def caption(copy_of):
    """examples/caption: Python 3.13 on Debian 13."""
    return build(copy_of("caption"))


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """A model with inputs of every kind, whose origins are gone."""
    need("docker-registry", "skopeo")
    return make_everything(tmp_path_factory.mktemp("everything"))


@pytest.fixture(scope="session")
def surface_model(lock_of):
    """Copies the black-box tests' model, with a lock: it asks for nothing that examples/blur does not."""

    def copy(folder):
        shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns(".tungsten", "__pycache__"))
        shutil.copy(lock_of("blur"), folder)
        return folder

    return copy


@pytest.fixture(scope="session", params=["local", "container"])
def kind(request):
    """Where the black-box tests' server runs."""
    return request.param


@pytest.fixture(scope="session")
def surface(kind, tmp_path_factory, surface_model):
    """The black-box tests' model as `tungsten serve` takes it: its folder, or its image's name."""
    folder = surface_model(tmp_path_factory.mktemp("surface") / "model")
    if kind == "local":
        yield folder
        return
    need(*ENGINE)
    image = build(folder, "--name", f"surface-{secrets.token_hex(4)}").reference
    yield image
    remove_images(image)
