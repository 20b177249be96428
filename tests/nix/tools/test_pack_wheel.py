"""Wheels of our own sources: what is in them, and that the same sources give the same bytes."""

import os
import subprocess
import sys
import venv
import zipfile

import pytest


@pytest.fixture
def sources(tmp_path):
    root = tmp_path / "sources"
    (root / "sub/__pycache__").mkdir(parents=True)
    for name in (
        "__init__.py",
        "py.typed",
        "sub/__init__.py",
        "page.html",
        "sub/__pycache__/x.py",
        "old.pyc",
    ):
        (root / name).write_text(f"# {name}\n")
    (root / "cli.py").write_text("def main():\n    print('it runs')\n")
    return root


@pytest.fixture
def pack(run_tool, sources, tmp_path):
    def make(out="kit-1.0-py3-none-any.whl", options=None, **config):
        config = {
            "name": "tungstenkit-nix",
            "version": "1.0",
            "requires": ["pydantic>=2"],
            "requires-python": ">=3.9",
            "packages": {"kit": str(sources)},
            "scripts": {},
            **config,
        }
        (tmp_path / out).parent.mkdir(exist_ok=True)
        result = run_tool("pack_wheel.py", config, tmp_path / out, **(options or {}))
        assert result.returncode == 0, result.stderr
        return tmp_path / out

    return make


def test_the_packages_files_and_metadata_are_in_it_but_no_byte_code(pack):
    with zipfile.ZipFile(pack()) as archive:
        assert archive.namelist() == [
            "kit/__init__.py",
            "kit/cli.py",
            "kit/page.html",
            "kit/py.typed",
            "kit/sub/__init__.py",
            "tungstenkit_nix-1.0.dist-info/METADATA",
            "tungstenkit_nix-1.0.dist-info/WHEEL",
            "tungstenkit_nix-1.0.dist-info/top_level.txt",
            "tungstenkit_nix-1.0.dist-info/RECORD",
        ]
        metadata = archive.read("tungstenkit_nix-1.0.dist-info/METADATA").decode()
        assert (
            "Name: tungstenkit-nix\nVersion: 1.0\nRequires-Python: >=3.9\nRequires-Dist: pydantic>=2\n"
            in metadata
        )


def test_the_bytes_depend_on_the_sources_alone(pack, sources):
    first = pack("a/kit.whl").read_bytes()
    for path in sources.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700)
    assert pack("b/kit.whl", {"env": {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "3"}}).read_bytes() == first


def test_it_installs(pack, tmp_path, make_layer, wheel_input):
    """layer.py verifies every hash, and a Python into whose folder it is unpacked finds its entry point."""
    wheel = pack("tungstenkit_nix-1.0-py3-none-any.whl", requires=[], scripts={"kit-run": "kit.cli:main"})
    layer = make_layer(wheel_input(wheel))
    assert "usr/local/bin/kit-run" in layer.members()
    venv.create(tmp_path / "venv", with_pip=False)
    target = (
        tmp_path / "venv/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    code = "import importlib.metadata as m; m.entry_points(group='console_scripts', name='kit-run')['kit-run'].load()()"
    result = subprocess.run(
        [tmp_path / "venv/bin/python", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "it runs\n"


def test_a_missing_folder_is_named(run_tool, tmp_path):
    config = {
        "name": "a",
        "version": "1",
        "requires": [],
        "requires-python": "",
        "packages": {"a": "/gone"},
        "scripts": {},
    }
    result = run_tool("pack_wheel.py", config, tmp_path / "a.whl")
    assert result.stderr == "error: /gone: not a folder of Python sources\n"
    assert not (tmp_path / "a.whl").exists()
