"""What a model's folder gives to those who read its lock."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tungstenkit import locks
from tests.tungstenkit.observers import Told
from tungstenkit import nix_program, started, store
from tungstenkit.lock.parts import Files, LockedDownload, Tungsten
from tungstenkit.project import folder as project_folder
from tungstenkit.project.folder import Project
from tungstenkit.sdk.errors import FetchError, SpecError
from tungstenkit.sdk.wishes import DEFAULT_EXCLUDE_FILES
from tungstenkit.spec.files import excluding
from tungstenkit.watch import UNWATCHED

EXAMPLE = Path(__file__).resolve().parent.parent.parent.parent / "examples" / "blur"


@pytest.mark.parametrize("part", ["commands", "post_build"])
def test_what_files_declares_makes_no_result_stale(tmp_path, monkeypatch, part):
    (tmp_path / "tungsten_model.py").write_text("")
    # As it lies there for a server without an image.
    (tmp_path / "weights").write_text("1")
    download = LockedDownload(
        url="http://files.example/weights", size=1, sha256=hashlib.sha256(b"1").hexdigest(), to="weights"
    )
    lock = locks.lock().model_copy(update={"files": Files(downloads=(download,))})
    spec = SimpleNamespace(
        module="tungsten_model",
        include_files=["*"],
        exclude_files=[],
        commands=part == "commands",
        has_post_build=part == "post_build",
    )
    seen = []
    monkeypatch.setattr(project_folder, "read_lock", lambda path: lock)
    monkeypatch.setattr(project_folder, "check_lock", lambda *arguments: None)
    monkeypatch.setattr(
        f"tungstenkit.audit.{part}_seen.check",
        lambda lock, spec, folder, files, where: seen.extend(files),
    )
    assert Project(tmp_path, spec).checked_lock() is lock
    assert [file.path for file in seen] == ["tungsten_model.py"]


@pytest.mark.parametrize(
    ("change", "is_told"),
    [({}, False), ({"nix": "0" * 64}, True), ({"version": "9.9.9"}, True), (None, True)],
    ids=["the same", "another nix/", "another version", "a lock of before"],
)
def test_a_lock_that_another_tungsten_has_made_fits_and_that_is_told_once(
    tmp_path, monkeypatch, change, is_told
):
    maker = None if change is None else Tungsten.this().model_copy(update=change)
    lock = locks.lock().model_copy(update={"tungsten": maker})
    monkeypatch.setattr(project_folder, "read_lock", lambda path: lock)
    monkeypatch.setattr(project_folder, "check_lock", lambda *arguments: None)
    spec = SimpleNamespace(commands=None, has_post_build=False)
    project = Project(tmp_path, spec, Told())
    project.checked_lock(with_result=False)
    assert project.watch.makers == []
    assert [project.checked_lock() for _ in range(2)] == [lock, lock]
    assert project.watch.makers == ([maker] if is_told else [])


def test_the_examples_results_are_of_what_their_models_see():
    """Whoever clones the repository need not train an example's model again."""
    directory = Path(__file__).resolve().parent.parent.parent.parent / "examples" / "iris"
    lock = Project.read(directory, None, None, UNWATCHED).checked_lock()
    assert all(platform.post_build for platform in lock.platforms.values())


class TestWhatShips:
    @pytest.fixture
    def model(self, tmp_path):
        (tmp_path / "tungsten_model.py").write_text("")

        def project(watch=UNWATCHED, **lists):
            lists = {"include_files": ["*"], "exclude_files": ["notes/"], **lists}
            return Project(tmp_path, SimpleNamespace(module="tungsten_model", **lists), watch)

        return project

    def test_a_secret_stops_whatever_would_put_it_into_an_image(self, model, tmp_path):
        (tmp_path / ".env").write_text("TOKEN=x")
        (tmp_path / "venv").mkdir()
        (tmp_path / "venv" / "pyvenv.cfg").write_text("")
        (tmp_path / "venv" / "test.key").write_text("-----BEGIN PRIVATE KEY-----")
        with pytest.raises(SpecError) as caught:
            model().files()
        assert caught.value.what.splitlines()[1:] == [
            ".env: environment variables",
            "venv/test.key: a private key",
        ]
        assert caught.value.hint == (
            'keep it out by exclude_files=[".*", "__pycache__/", "*.py[cod]", "notes/", "venv/"] in define_model(…); '
            'or, if it is meant to be there, name it: include_files=["*", "/.env", "venv/test.key"]'
        )
        kept_out = [".*", "__pycache__/", "*.py[cod]", "notes/", "venv/"]
        assert [file.path for file in model(exclude_files=kept_out).files()] == ["tungsten_model.py"]
        named = [file.path for file in model(include_files=["*", "/.env", "venv/test.key"]).files()]
        assert named == [".env", "tungsten_model.py", "venv/pyvenv.cfg", "venv/test.key"]

    def test_what_tools_have_left_is_told_once_with_what_to_write(self, model, tmp_path):
        for name in ("wandb", "mlruns"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "x").write_text("")
        told = Told()
        project = model(told, exclude_files=[*DEFAULT_EXCLUDE_FILES])
        assert len(project.files()) == len(project.files()) == 3
        (warning,) = told.warnings
        assert warning.splitlines() == [
            "tools have left these in the model's folder, and they will be in the image:",
            "mlruns/: runs of MLflow",
            "wandb/: runs of Weights & Biases",
            f"  hint: keep it out by {excluding(DEFAULT_EXCLUDE_FILES, 'mlruns/', 'wandb/')} in define_model(…)",
        ]

    def test_empty_folders_are_told_once_but_for_those_that_are_left_out(self, model, tmp_path):
        for name in ("outputs/deep/er", "outputs/more", "full/empty", "notes/none", ".git/refs", ".cache/x"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "full" / "file").write_text("")
        told = Told()
        project = model(told, exclude_files=[*DEFAULT_EXCLUDE_FILES, "notes/"])
        assert len(project.files()) == len(project.files()) == 2
        (notice,) = told.notices
        assert notice.startswith(
            "not in the image, since nothing is in it: full/empty/, outputs/; what needs"
        )
        model(told, include_files=["*.py"], exclude_files=[*DEFAULT_EXCLUDE_FILES]).files()
        assert told.notices == [notice]


class TestState:
    """`.tungsten` of a repository of somebody else's."""

    @pytest.fixture
    def model(self, tmp_path):
        shutil.copytree(EXAMPLE, tmp_path / "model", ignore=shutil.ignore_patterns(".tungsten"))
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").write_text("kept")
        return tmp_path / "model"

    @pytest.mark.parametrize(
        "place",
        [
            "",
            "roots",
            "downloads",
            "downloads/0000",
            "step",
            "export",
            "busy",
            ".gitignore",
            "roots/input",
            "shell",
        ],
    )
    def test_a_link_in_it_leads_nowhere(self, model, place):
        link = self.link(model, place)
        with pytest.raises(FetchError) as caught, Project(model, None).exclusively():
            pass
        assert f"{link} is a link to" in caught.value.what
        self.check(model)

    @pytest.mark.parametrize("command", [["fetch"], ["build", "--no-load"], ["shell", "--", "true"]])
    def test_nor_for_any_command(self, model, command):
        link = self.link(model, "roots")
        name, *rest = command
        run = subprocess.run(
            [sys.executable, "-m", "tungstenkit", name, str(model), *rest], capture_output=True, text=True
        )
        assert run.returncode == 1
        assert f"{link} is a link to" in run.stderr
        assert f"hint: nothing is kept there that can't be made again: rm -r {model}/.tungsten" in run.stderr
        self.check(model)

    def link(self, model, place):
        link = model / ".tungsten" / place
        link.parent.mkdir(parents=True, exist_ok=True)
        target = model.parent / "precious" / ("file" if place in ("busy", ".gitignore") else "")
        link.symlink_to(target, target_is_directory=target.is_dir())
        return link

    def check(self, model):
        assert [path.name for path in (model.parent / "precious").iterdir()] == ["file"]
        assert (model.parent / "precious" / "file").read_text() == "kept"

    def test_what_belongs_to_another_user_is_not_used(self, model, monkeypatch):
        (model / ".tungsten" / "roots").mkdir(parents=True)
        project = Project(model, None)
        assert project.state == model / ".tungsten"
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        with pytest.raises(FetchError, match=f"is the user {uid}'s"):
            _ = project.state

    def test_what_we_make_ourselves_is_used_again(self, model):
        project = Project(model, None)
        with project.exclusively():
            (project.state / "roots").mkdir()
            (project.state / "roots" / "input").symlink_to(
                f"{store.place()}/00000000000000000000000000000000-x"
            )
            (project.state / "export" / "model").mkdir(parents=True)
            (project.state / "export" / "model" / "a").symlink_to("b")
        with project.exclusively():
            pass

    def test_a_link_that_climbs_out_of_the_store_is_none_of_ours(self, model):
        (model / ".tungsten").mkdir()
        (model / ".tungsten" / "shell").symlink_to(f"{store.place()}/../../etc")
        with pytest.raises(FetchError, match="is a link to"):
            _ = Project(model, None).state


class TestNix:
    """Which Nix works on a model, and when it is brought."""

    @pytest.fixture(autouse=True)
    def brought(self, monkeypatch, tmp_path):
        """The notices of those who had it brought."""
        brought = []
        monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path / "home"))
        monkeypatch.setattr("tungstenkit.fetch.own_nix.bring", lambda origin, watch: brought.append(origin))
        return brought

    def test_a_model_may_ask_for_ours_and_the_user_decides(self, brought, monkeypatch, tmp_path):
        model = shutil.copytree(EXAMPLE, tmp_path / "model", ignore=shutil.ignore_patterns(".tungsten"))
        (model / "pyproject.toml").write_text('[tool.tungsten.nix]\nuse = "own"\n')
        with Project.read(model, None, None, UNWATCHED).exclusively():
            assert not nix_program.current().is_own
        monkeypatch.delenv("TUNGSTEN_NIX")
        assert not brought
        with Project.read(model, None, None, UNWATCHED).exclusively():
            assert nix_program.current().is_own
        assert len(brought) == 1
        (model / "pyproject.toml").unlink()
        monkeypatch.setenv("PATH", str(tmp_path))
        Project.read(model, None, None, UNWATCHED)
        assert nix_program.current().is_own

    def test_a_folder_that_was_carried_here_is_asked_before_a_mirror(self, brought, monkeypatch, tmp_path):
        monkeypatch.setenv("TUNGSTEN_NIX", "own")
        monkeypatch.setattr(
            "tungstenkit.fetch.carry.archive_in", lambda folder: {"debian/pool/x": tmp_path / "x"}
        )
        Project(tmp_path, None).bring_nix(tmp_path)
        (origin,) = brought
        assert origin().urls("mirror://debian/pool/x", {}) == [(tmp_path / "x").as_uri()]


class TestExclusively:
    @pytest.fixture
    def model(self, tmp_path):
        """Two of one folder; the second's observer is told when it waits."""
        waits = threading.Event()
        told = Told()
        told.notice = lambda text: (told.notices.append(text), waits.set())
        return Project(tmp_path, None), Project(tmp_path, None, told), waits

    def test_who_waits_is_told_for_what_before_it_waits(self, model):
        first, second, waits = model
        done = []

        def work():
            with second.exclusively():
                done.append("second")

        thread = threading.Thread(target=work)
        with first.exclusively():
            thread.start()
            assert waits.wait(timeout=60)
            done.append("first")
        thread.join(timeout=60)
        assert done == ["first", "second"]
        assert second.watch.notices == ["another tungsten is at work on this model: waiting for it"]

    def test_whether_the_folder_can_be_written_is_looked_at_without_waiting(self, model):
        first, second, waits = model
        with first.exclusively():
            second.check_writable()
        assert not waits.is_set()


@pytest.mark.parametrize("lock", [None, "no JSON"])
def test_what_is_wrong_with_a_declaration_is_told_before_what_is_with_its_lock(tmp_path, lock):
    """Though the lock is read first."""
    (tmp_path / "tungsten_model.py").write_text("no Python")
    if lock is not None:
        (tmp_path / "tungsten.lock").write_text(lock)
    with pytest.raises(SpecError, match="SyntaxError"):
        Project.read(tmp_path, None, None, UNWATCHED)


def test_letting_go_of_roots_removes_only_links_into_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_nix_store", lambda arguments: "")
    roots = tmp_path / "roots"
    roots.mkdir()
    (roots / "file").write_text("")
    (roots / "folder").mkdir()
    (roots / "elsewhere").symlink_to(tmp_path)
    (roots / "input").symlink_to(f"{store.place()}/00000000000000000000000000000000-x")
    store.keep([], roots)
    assert {path.name for path in roots.iterdir()} == {"file", "folder", "elsewhere"}


def test_notices_about_mirrors_are_shown_once_whatever_asks_for_them(tmp_path, monkeypatch):
    """By `fetch` and `build`, too, for which nothing is locked."""
    mirrors = SimpleNamespace(notices=("it is slow [really]",))
    lock = locks.lock()
    wanted = [SimpleNamespace()]
    monkeypatch.setattr("tungstenkit.fetch.machine_mirrors.find_mirrors", lambda *_, **__: mirrors)
    monkeypatch.setattr(project_folder, "is_brought", lambda *_, **__: False)
    monkeypatch.setattr("tungstenkit.fetch.bring.part_of", lambda *_: lock)
    monkeypatch.setattr("tungstenkit.fetch.bring.missing_files", lambda part: wanted)
    monkeypatch.setattr("tungstenkit.fetch.bring.needed_files", lambda part: wanted)
    monkeypatch.setattr("tungstenkit.fetch.locate.locate", lambda *_: {})
    monkeypatch.setattr("tungstenkit.fetch.bring.bring", lambda *_, **__: None)
    told = Told()
    model = Project(tmp_path, SimpleNamespace(python_packages=[]), told)
    for _ in range(2):
        assert project_folder.fetch_inputs(model, lock, ["x86_64-linux"], []) == 1
    assert told.notices == ["it is slow [really]"]


def test_the_store_is_held_while_a_model_is_worked_at(tmp_path, monkeypatch):
    """Before its first root is there, nothing else tells what collects that it is needed."""
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(store, "place", lambda: str(tmp_path / "store"))
    monkeypatch.setattr(Project, "bring_nix", lambda _: None)
    (tmp_path / "model").mkdir()
    project = Project(tmp_path / "model", None)
    with project.exclusively():
        assert started.is_held(tmp_path / "store")
    assert not started.is_held(tmp_path / "store")
