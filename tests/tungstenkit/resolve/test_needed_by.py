"""Who needs each wheel, as uv tells it: real solves against an index on the loopback, of wheels without contents."""

import hashlib
import http.server
import threading
import zipfile

import pytest

from tungstenkit.platforms import Target
from tungstenkit.resolve.wheels import resolve_wheels

TARGET = Target("x86_64-linux", "bookworm", "3.11")
PROJECTS = {
    "app": ["lib[fast]>=1", "old ; python_version < '3.11'", "new ; python_version >= '3.11'"],
    "lib": ["base", "speed ; extra == 'fast'", "docs ; extra == 'docs'"],
    "Other_App": ["base<2"],
    **dict.fromkeys(["base", "speed", "docs", "old", "new"], ()),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The URL of an index with version 1 of each project, and version 2 of `base`."""
    folder = tmp_path_factory.mktemp("index")
    for project, requires in PROJECTS.items():
        page = folder / project.lower().replace("_", "-")
        page.mkdir()
        links = []
        for version in ("1", "2") if project == "base" else ("1",):
            name = f"{project}-{version}"
            file = f"{name}-py3-none-any.whl"
            metadata = [f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}"]
            metadata += [f"Provides-Extra: {extra}" for extra in ("fast", "docs") if project == "lib"]
            metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
            with zipfile.ZipFile(page / file, "w") as archive:
                archive.writestr(f"{name}.dist-info/METADATA", "\n".join(metadata) + "\n")
                archive.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
                archive.writestr(f"{name}.dist-info/RECORD", "")
            content = (page / file).read_bytes()
            links.append(
                f'{{"filename": "{file}", "url": "{file}", "size": {len(content)},'
                f' "hashes": {{"sha256": "{hashlib.sha256(content).hexdigest()}"}}}}'
            )
        (page / "index.json").write_text(
            f'{{"meta": {{"api-version": "1.1"}}, "name": "{page.name}", "files": [{", ".join(links)}]}}'
        )

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            if self.path.endswith("/"):
                self.path += "index.json"
            super().do_GET()

        def guess_type(self, path):
            kind = "application/vnd.pypi.simple.v1+json"
            return kind if str(path).endswith(".json") else "application/zip"

        def end_headers(self):
            self.send_header("Cache-Control", server.cache_control)
            super().end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.cache_control = "max-age=600"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def solve(index, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))

    def solve(*requirements, **options):
        url = f"http://127.0.0.1:{index.server_port}"
        wheels = resolve_wheels(requirements, TARGET, index_url=url, where="python_packages", **options)
        return {wheel.project: wheel.needed_by for wheel in wheels}

    return solve


def test_extras_and_markers_count_as_they_did_in_the_solve(solve):
    assert solve("app", "base") == {
        "app": ("python_packages: app",),
        "base": ("lib", "python_packages: base"),
        "lib": ("app",),
        "new": ("app",),
        "speed": ("lib",),
    }


def test_the_users_own_words_are_kept(solve):
    needed_by = solve("other.app==1", "lib[docs] >= 1", "old ; python_version < '3'")
    assert needed_by == {
        "base": ("lib", "other-app"),
        "docs": ("lib",),
        "lib": ("python_packages: lib[docs] >= 1",),
        "other-app": ("python_packages: other.app==1",),
    }


def test_two_requirements_of_one_project_are_both_told(solve):
    assert solve("base>=1", "base!=1.5")["base"] == ("python_packages: base!=1.5", "python_packages: base>=1")


def test_an_index_that_may_not_be_kept_is_asked_again(solve, index, monkeypatch):
    monkeypatch.setattr(index, "cache_control", "no-store")
    assert solve("lib") == {"base": ("lib",), "lib": ("python_packages: lib",)}


def test_a_pin_that_is_kept_is_explained_as_well(solve, index):
    url = f"http://127.0.0.1:{index.server_port}"
    options = {"index_url": url, "where": "python_packages"}
    old = resolve_wheels(["base<2"], TARGET, **options)
    (base, _) = resolve_wheels(["lib"], TARGET, prefer=old, **options)
    assert (base.version, base.needed_by) == ("1", ("lib",))
