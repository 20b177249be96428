"""A lock's wheels as a Poetry project, which Poetry itself accepts."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests import generate
from tests.tungstenkit.locks import wheel
from tungstenkit.export import poetry
from tungstenkit.lock.document import LOCK_NAME, read_lock

LOCKS = sorted(generate.GOLDEN.glob(f"*/{LOCK_NAME}"))


def written(*wheels, python="3.11"):
    texts = poetry.project("a-project", python, wheels)
    return tomllib.loads(texts["pyproject.toml"])["tool"]["poetry"], tomllib.loads(texts["poetry.lock"])


def test_each_wheel_is_a_direct_dependency_at_its_version_and_the_only_file_of_its_package():
    project, lock = written(wheel("numpy", "2.0"), wheel("annotated-types", "0.7"))
    assert project["dependencies"] == {"python": "~3.11", "annotated-types": "0.7", "numpy": "2.0"}
    assert [package["name"] for package in lock["package"]] == ["annotated-types", "numpy"]
    (file,) = lock["package"][1]["files"]
    assert file == {"file": "numpy-2.0-py3-none-any.whl", "hash": f"sha256:{'1' * 64}"}
    assert not any("dependencies" in package or "markers" in package for package in lock["package"])


@pytest.mark.parametrize(
    ("version", "spelt"), [("2021.4.1", "2021.04.01"), ("2.4.1+cu124", "2.4.1+cu124"), ("1.0", "1.0")]
)
def test_versions_are_spelt_as_in_the_files_name(version, spelt):
    """poetry2nix takes a file for one of the package only where the version stands in its name."""
    project, lock = written(wheel("pytz", version, file=f"pytz-{spelt}-py3-none-any.whl"))
    assert project["dependencies"]["pytz"] == lock["package"][0]["version"] == spelt


def test_the_same_wheels_give_the_same_bytes_in_any_order():
    wheels = [wheel("b"), wheel("a"), wheel("c")]
    assert poetry.project("p", "3.11", wheels) == poetry.project("p", "3.11", wheels[::-1])


def test_no_host_is_named():
    texts = poetry.project("p", "3.11", [wheel("a", url="https://example.invalid/a-1-py3-none-any.whl")])
    assert "//" not in "".join(texts.values())


@pytest.fixture(scope="session")
def real_poetry(tmp_path_factory):
    """Poetry, in an environment of its own: what it needs is not ours to need."""
    folder = tmp_path_factory.mktemp("poetry")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "poetry>=2",
    ]
    if (run := subprocess.run(install, capture_output=True, text=True, check=False)).returncode != 0:
        pytest.skip(f"poetry can't be installed: {run.stderr.strip().splitlines()[-1]}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POETRY_")}
    environment["POETRY_CACHE_DIR"] = str(folder / "cache")
    environment["POETRY_CONFIG_DIR"] = str(folder / "config")
    environment["POETRY_VIRTUALENVS_OPTIONS_NO_PIP"] = "true"

    def poetry(directory, *arguments):
        command = [folder / "bin" / "poetry", "--no-interaction", *arguments]
        return subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False
        )

    return poetry


@pytest.mark.upstream
@pytest.mark.soak
@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.parent.name)
def test_poetry_accepts_the_project(real_poetry, tmp_path, path):
    """It finds the lock fresh, and would install exactly what the lock names, for each platform and environment."""
    lock = read_lock(path)
    environments = [(part.python, part.wheels) for part in (*lock.platforms.values(), *lock.server.values())]
    for number, (python, wheels) in enumerate(environments):
        project = tmp_path / str(number)
        project.mkdir()
        for name, text in poetry.project("a-project", python, wheels).items():
            (project / name).write_text(text)
        check = real_poetry(project, "check", "--lock")
        assert check.returncode == 0, check.stdout + check.stderr
        if shutil.which(f"python{python}") is None:
            continue  # Poetry installs for a Python that is there alone
        run = real_poetry(project, "sync", "--no-root", "--dry-run")
        assert run.returncode == 0, run.stdout + run.stderr
        installed = re.findall(r"- Installing (\S+) \((\S+)\)", run.stdout)
        assert sorted(installed) == sorted((one.project, one.version) for one in wheels)


@pytest.mark.upstream
@pytest.mark.soak
def test_poetry_refuses_a_project_that_its_lock_is_not_of(real_poetry, tmp_path):
    """Else that it accepts one would show nothing."""
    texts = poetry.project("a-project", "3.11", [wheel("a")])
    (tmp_path / "poetry.lock").write_text(texts["poetry.lock"])
    (tmp_path / "pyproject.toml").write_text(texts["pyproject.toml"].replace('a = "1"', 'a = "2"'))
    assert real_poetry(tmp_path, "check", "--lock").returncode != 0
