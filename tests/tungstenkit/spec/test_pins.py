"""Lock files of other tools: what of them is a pin, and what is said of those that are none."""

import json

import pytest

from tungstenkit.sdk.errors import SpecError
from tungstenkit.spec.pins import read_lock_file

A, B = "a" * 64, "b" * 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HERE = {"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux"}

UV = f"""\
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "mine"
version = "0.1"
source = {{ virtual = "." }}

[[package]]
name = "also-mine"
source = {{ editable = "." }}

[[package]]
name = "Foo"
version = "1.0"
source = {{ registry = "https://index.example/simple" }}
resolution-markers = ["python_full_version < '3.11'", "sys_platform == 'darwin'"]

[[package]]
name = "foo"
version = "2.0"
source = {{ registry = "https://index.example/simple" }}
resolution-markers = ["python_full_version >= '3.11' and sys_platform == 'linux'"]
sdist = {{ url = "https://index.example/foo-2.0.tar.gz", hash = "sha256:{A}", size = 1 }}
wheels = [{{ url = "https://index.example/foo-2.0-py3-none-any.whl", hash = "sha256:{B}", size = 1 }}]

[[package]]
name = "repo"
version = "0.3"
source = {{ git = "https://git.example/me/repo?subdirectory=py&rev=main#{COMMIT}" }}

[[package]]
name = "lib"
version = "0.4"
source = {{ editable = "libs/lib" }}
"""
POETRY = f"""\
[[package]]
name = "foo"
version = "2.0"
python-versions = ">=3.9"
groups = ["main", "dev"]
markers = "python_version >= '3.11'"
files = [
    {{file = "foo-2.0-py3-none-any.whl", hash = "sha256:{B}"}},
    {{file = "foo-2.0.tar.gz", hash = "sha256:{A}"}},
]

[[package]]
name = "foo"
version = "3.0"
markers = {{main = "sys_platform == 'win32'", dev = "python_version < '3.9'"}}
files = []

[[package]]
name = "repo"
version = "0.3"
files = []
[package.source]
type = "git"
url = "https://git.example/me/repo"
reference = "main"
resolved_reference = "{COMMIT}"
subdirectory = "py"

[[package]]
name = "lib"
version = "0.4"
files = []
[package.source]
type = "directory"
url = "libs/lib"

[metadata]
lock-version = "2.1"
python-versions = "^3.11"
content-hash = "{A}"
"""
PYLOCK = f"""\
lock-version = "1.0"
created-by = "another tool"
requires-python = ">=3.11"

[[packages]]
name = "foo"
version = "2.0"
marker = "sys_platform == 'linux'"
sdist = {{ name = "foo-2.0.tar.gz", url = "https://index.example/foo-2.0.tar.gz", hashes = {{ sha256 = "{A}" }} }}
wheels = [{{ name = "foo-2.0-py3-none-any.whl", upload-time = 2025-01-01T00:00:00Z, hashes = {{ sha256 = "{B}" }} }}]

[[packages]]
name = "repo"
version = "0.3"
marker = "'gpu' in extras"
vcs = {{ type = "git", url = "https://git.example/me/repo", commit-id = "{COMMIT}", subdirectory = "py" }}

[[packages]]
name = "lib"
version = "0.4"
directory = {{ path = "libs/lib" }}
"""
REQUIREMENTS = f"""\
# This file was made by a tool.
--extra-index-url https://index.example/simple
foo==1.0 ; python_version < '3.11' \\
    --hash=sha256:{A}
Foo==2.0 ; python_version >= '3.11' \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via mine
bar>=1
baz==1.*
-e .
"""


def written(folder, name, text):
    (folder / name).write_text(text)
    return read_lock_file(folder, name)


@pytest.mark.parametrize(
    ("name", "text"), [("uv.lock", UV), ("poetry.lock", POETRY), ("pylock.toml", PYLOCK)]
)
def test_versions_hashes_and_places_are_read(tmp_path, name, text):
    found = written(tmp_path, name, text)
    pins = found.pins_where(HERE)
    assert {name: pin.version for name, pin in pins.items()} == {"foo": "2.0", "repo": "0.3", "lib": "0.4"}
    assert pins["foo"].hashes == {A, B}
    assert {name: pin.line for name, pin in pins.items()} == {
        "foo": None,
        "repo": f"repo @ git+https://git.example/me/repo@{COMMIT}#subdirectory=py",
        "lib": "lib @ ./libs/lib",
    }
    assert found.requires_python.contains("3.13")
    assert not found.requires_python.contains("3.9")


def test_a_file_of_requirements_pins_what_it_has_exactly(tmp_path):
    pins = written(tmp_path, "requirements.txt", REQUIREMENTS).pins_where(HERE)
    assert {name: (pin.version, pin.hashes) for name, pin in pins.items()} == {"foo": ("2.0", {A, B})}


def test_the_hashes_of_old_files_of_poetrys_stand_at_their_end(tmp_path):
    text = f"""\
[[package]]
name = "foo"
version = "2.0"

[metadata]
lock-version = "1.1"
python-versions = ">=3.8,<3.12"

[metadata.files]
foo = [{{file = "foo-2.0-py3-none-any.whl", hash = "sha256:{B}"}}]
"""
    found = written(tmp_path, "poetry.lock", text)
    assert found.pins_where(HERE)["foo"].hashes == {B}
    assert not found.requires_python.contains("3.12")


def test_a_byte_order_mark_counts_for_nothing(tmp_path):
    (tmp_path / "uv.lock").write_bytes(b"\xef\xbb\xbf" + UV.replace("\n", "\r\n").encode())
    assert set(read_lock_file(tmp_path, "uv.lock").pins_where(HERE)) == {"foo", "repo", "lib"}


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("Pipfile.lock", json.dumps({"default": {}}), "can't be read as a lock file"),
        ("pyproject.toml", "[project]\nname = 'mine'\n", "no table that these tools write"),
        ("uv.lock", 'version = 1\npackage = [{name = "foo", version = "one"}]\n', "foo: Invalid version"),
        ("uv.lock", 'version = 1\npackage = [{version = "1"}]\n', "'name'"),
        ("uv.lock", "version = 1\npackage = 3\n", "can't be read as a lock file"),
        ("uv.lock", "version = 1\npackage = []\n", "pins nothing"),
        ("requirements.txt", "foo\nbar>=1\n", "pins nothing"),
    ],
)
def test_what_is_no_lock_file_is_refused_with_what_is(tmp_path, name, text, what):
    with pytest.raises(SpecError, match=r"can't be read|pins nothing") as caught:
        written(tmp_path, name, text)
    assert what in caught.value.what
    assert caught.value.where == str(tmp_path / name)
    assert "uv.lock, pylock.toml, poetry.lock" in caught.value.hint


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SpecError, match="No such file"):
        read_lock_file(tmp_path, "uv.lock")
