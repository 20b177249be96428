"""What requirements come to, with uv itself against indexes on loopback that hold tiny packages."""

import base64
import contextlib
import hashlib
import io
import re
import subprocess
import tarfile
import tomllib
import zipfile
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from packaging.specifiers import SpecifierSet

from tests.loopback import serving
from tungstenkit.fetch import web
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.lock.parts import Platform
from tungstenkit.platforms import Target
from tungstenkit.resolve.build_rules import read_build_rules
from tungstenkit.resolve.builds import Builds
from tungstenkit.resolve.pinned import Pinned
from tungstenkit.resolve.python_index import PythonIndex
from tungstenkit.resolve.python_packages import Pins, PythonPackages, solve_python
from tungstenkit.resolve.sources import Sources
from tungstenkit.resolve.unlisted import Unlisted
from tungstenkit.sdk.errors import FetchError, ResolveError, UnusableError
from tungstenkit.spec.pins import LockFile, Pin
from tungstenkit.spec.requirements import parse

pytestmark = pytest.mark.timeless("solves of uv's, of which test_written's and test_needed_by's are tried")

TARGET = Target("x86_64-linux", "bookworm", "3.11")
RELEASE = {"release": "bookworm", "python": "3.11"}


def wheel(name, version, *requires, tag="py3-none-any"):
    """A wheel's file name and bytes."""
    data = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {text}\n" for text in requires)
    metadata += "".join(
        f"Provides-Extra: {text.split(chr(39))[1]}\n" for text in requires if "extra ==" in text
    )
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"{name}-{version}-{tag}.whl", data.getvalue()


def sdist(name, version, *requires, **files):
    """A source archive's file name and bytes; running it would fail."""
    members = {
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {text}\n" for text in requires),
        "setup.py": "raise SystemExit('it was run')",
        **{key.replace("__", "."): text for key, text in files.items()},
    }
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for member, text in members.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{member}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return f"{name}-{version}.tar.gz", data.getvalue()


def index_of(save):
    """An index without a project; what is saved is up to a test."""
    return PythonIndex(lambda project: [], None, save)


SETUPTOOLS = wheel("setuptools", "80.0")


class Index(BaseHTTPRequestHandler):
    """A simple index (PEP 503); each server has files, a password or none, and what was asked."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        if server.password and self.headers.get("Authorization") != server.password:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.end_headers()
            return
        kind, _, name = unquote(self.path.strip("/")).partition("/")
        if kind == "simple" and server.refuses and not any(f.startswith(f"{name}-") for f in server.files):
            self.send_error(server.refuses)
            return
        body = server.files.get(name) if kind == "files" else None
        if kind == "links":
            links = (f'<a href="/files/{quote(file)}">{file}</a>' for file in server.files)
            body = "".join([*links, '<a href="mailto:me@host.example">me</a>']).encode()
        if kind == "simple":
            listed = [f for f in server.files if f.partition("-")[0].replace("_", "-") == name]
            body = "".join(
                f"<a {'data-yanked' if file in server.yanked else ''} "
                f'data-requires-python="{server.requires_python.get(file, "")}" '
                f'href="/files/{file}#sha256={hashlib.sha256(server.files[file]).hexdigest()}">{file}</a>'
                for file in listed
            ).encode()
        if not body:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header(
            "Content-Type", "text/html" if kind in ("simple", "links") else "application/octet-stream"
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (the base class's name)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    """Start an index with files; what it is called."""

    def serve(*files, user=None):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
        server.files, server.asked = dict(files), []
        server.yanked, server.requires_python, server.refuses = (), {}, None
        server.password = user and f"Basic {base64.b64encode(user.encode()).decode()}"
        server.url = f"http://127.0.0.1:{server.server_port}"
        return servers.enter_context(serving(server))

    with contextlib.ExitStack() as servers:
        yield serve


@pytest.fixture
def solve(tmp_path, monkeypatch):
    """Solve entries against indexes; wheels and sources by project, and the choices."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()

    def solve(entries, index, *extra, previous=None, indexes=None, unbuildable=None, pinned=None, gpu=None):
        """gpu: a version of CUDA to solve for, or "" for what fits; with the packages of the SDK then."""
        scratch = tmp_path / f"scratch-{len(list(tmp_path.iterdir()))}"
        scratch.mkdir()
        wishes = parse(entries)
        mirrors = Mirrors(
            (),
            (),
            f"{index.url}/simple",
            None,
            datetime(2026, 3, 1, tzinfo=UTC),
            extra_indexes=(*wishes.extra_index_urls, *(f"{one.url}/simple" for one in extra)),
            find_links=wishes.find_links,
            declared=wishes.places,
            indexes=indexes or {},
        )
        sources = Sources(
            model,
            scratch,
            PythonIndex(mirrors.project_files, web.part, web.save, mirrors.main_label),
            lambda text: None,
            read_build_rules(model),
        )
        builds = Builds(
            sources,
            TARGET,
            debs=lambda groups, where, prefer: solve.debs.append(groups["build"]) or (),
            previous=previous.sources if previous else (),
            unbuildable=unbuildable,
            unlisted=solve.unlisted,
        )
        pins = Pins(previous, pinned, solve.unlisted)
        packages = PythonPackages(wishes, TARGET, sources, builds, pins, where="python_packages")
        if gpu is None:
            answer = packages.solve(packages.lines)
        else:
            answer = solve_python(SimpleNamespace(gpu=True), packages, gpu or None).wheels
        wheels, sources, choices = packages.split(answer)
        solve.choices = choices
        return {one.project: one for one in (*wheels, *sources)}

    solve.debs = []
    solve.unlisted = Unlisted()
    solve.model = model
    return solve


def versions(found):
    return {name: entry.version for name, entry in found.items()}


def test_extras_and_markers_count(solve, serve):
    index = serve(
        wheel("foo", "1.0", "bar ; extra == 'x'", "baz ; python_version < '3'"),
        wheel("bar", "2.0"),
        wheel("baz", "1.0"),
    )
    assert versions(solve(["foo[x]", "baz ; sys_platform == 'win32'"], index)) == {"foo": "1.0", "bar": "2.0"}


def test_a_constraint_limits_what_is_needed_anyway(solve, serve):
    index = serve(wheel("foo", "1.0", "bar"), wheel("bar", "1.0"), wheel("bar", "2.0"), wheel("baz", "1.0"))
    assert versions(solve(["foo", "-c bar<2", "-c baz<1"], index)) == {"foo": "1.0", "bar": "1.0"}


def test_what_a_constraint_has_hashes_of_is_that_file(solve, serve):
    """As tools export what they locked: `-c requirements.txt`."""
    bar = wheel("bar", "1.0")
    index = serve(wheel("foo", "1.0", "bar"), bar, wheel("bar", "2.0"))
    right, wrong = hashlib.sha256(bar[1]).hexdigest(), "0" * 64
    other = f"-c bar==2.0 ; python_version < '3' --hash=sha256:{wrong}"
    assert versions(solve(["foo", f"-c bar==1.0 --hash=sha256:{right}", other], index)) == {
        "foo": "1.0",
        "bar": "1.0",
    }
    with pytest.raises(ResolveError, match=r"bar: .* none of the files whose hashes are given"):
        solve(["foo", f"-c bar==1.0 --hash=sha256:{wrong}"], index)


def test_what_another_tool_has_locked_is_kept_where_it_fits(solve, serve):
    index = serve(
        *(wheel("foo", version, "bar>=2", "baz") for version in ("1.0", "2.0", "3.0")),
        *(wheel("bar", version) for version in ("1.0", "2.0", "3.0")),
        *(wheel("baz", "1.0"), wheel("baz", "2.0"), wheel("new", "1.0"), wheel("new", "2.0")),
    )
    pins = Pin("foo", "2.0"), Pin("bar", "1.0"), Pin("baz", "1.0"), Pin("unasked", "7.0")
    file = Pinned(LockFile("uv.lock", pins, SpecifierSet()), is_new=True)
    found = solve(["foo", "new"], index, pinned=file)
    assert versions(found) == {"foo": "2.0", "bar": "3.0", "baz": "1.0", "new": "2.0"}
    assert [choice.subject for choice in solve.choices] == ["bar is not as uv.lock has it"]


class TestSourceDistributions:
    def test_the_newest_release_is_taken_with_a_wheel_or_without(self, solve, serve):
        """`hydra-core` came as a release of 2019, since its newer ones need a source."""
        index = serve(
            wheel("hydra", "0.11"),
            wheel("hydra", "1.3", "antlr==4.9.*"),
            wheel("hydra", "1.4rc1"),
            sdist("antlr", "4.9.3"),
            sdist("antlr", "4.13"),
            wheel("vips", "2.1"),
            sdist("vips", "3.2"),
            SETUPTOOLS,
        )
        assert versions(solve(["hydra"], index)) == {"hydra": "1.3", "antlr": "4.9.3"}
        assert versions(solve(["hydra>=1"], index)) == {"hydra": "1.3", "antlr": "4.9.3"}
        assert versions(solve(["vips"], index)) == {"vips": "3.2"}
        assert [choice.kind for choice in solve.choices] == ["source"]
        assert versions(solve(["vips<3"], index)) == {"vips": "2.1"}

    @pytest.mark.parametrize("option", ["--only-binary vips", "--only-binary :all:"])
    def test_sources_may_be_left_out(self, solve, serve, option):
        index = serve(wheel("vips", "2.1"), sdist("vips", "3.2"), SETUPTOOLS)
        assert versions(solve(["vips", option], index)) == {"vips": "2.1"}

    def test_where_nothing_can_be_built_wheels_are_taken_and_it_is_told(self, solve, serve):
        index = serve(wheel("vips", "2.1"), sdist("vips", "3.2"), SETUPTOOLS)
        why = "the base image has an older C library"
        assert versions(solve(["vips"], index, unbuildable=why)) == {"vips": "2.1"}
        assert reasons(solve.choices) == {"vips": f"not 3.2: no wheel of it fits, and {why}"}
        assert not any(path.startswith("/files/vips-3.2") for path in index.asked)
        with pytest.raises(ResolveError, match=f"vips 3.2: no wheel of it fits, and {why}"):
            solve(["vips>3"], index, unbuildable=why)

    def test_an_older_locks_pin_is_kept_though_a_newer_source_is_there(self, solve, serve):
        index = serve(wheel("vips", "2.1"), SETUPTOOLS)
        (old,) = solve(["vips"], index).values()
        index.files.update([sdist("vips", "3.2")])
        previous = Platform(**RELEASE, debs=(), wheels=(old,))
        assert versions(solve(["vips"], index, previous=previous)) == {"vips": "2.1"}

    def test_the_range_says_which_sources_are_looked_at(self, solve, serve):
        newer = [sdist("foo", f"2.{minor}") for minor in range(12)]
        index = serve(
            *newer, sdist("foo", "1.8"), sdist("foo", "1.9"), wheel("bar", "1.0", "foo<2"), SETUPTOOLS
        )
        assert versions(solve(["foo<2"], index)) == {"foo": "1.9"}
        assert versions(solve(["bar"], index)) == {"bar": "1.0", "foo": "1.9"}
        read = {path for path in index.asked if path.startswith("/files/foo")}
        assert read == {"/files/foo-1.9.tar.gz"}

    @pytest.mark.parametrize(
        ("source", "why"),
        [
            (sdist("foo", "2.0", Cargo__toml=""), "in Rust"),
            (sdist("foo", "2.0", "bar @ https://h.example/bar-1.0.tar.gz"), "which only the model may"),
            (sdist("foo", "2.0", pyproject__toml="["), "can't be read"),
            (
                sdist("foo", "2.0", pyproject__toml='[build-system]\nrequires = ["no-such-backend"]\n'),
                "what its source is built with can't be had",
            ),
        ],
    )
    def test_a_source_that_cant_be_built_is_no_candidate_while_a_wheel_fits(self, solve, serve, source, why):
        index = serve(wheel("foo", "1.0"), source, SETUPTOOLS)
        assert versions(solve(["foo"], index)) == {"foo": "1.0"}
        (choice,) = solve.choices
        assert (choice.kind, choice.subject, choice.chosen) == (
            "older",
            "foo is older than it could be",
            "1.0",
        )
        assert choice.reason.startswith("not 2.0: ")
        assert why in choice.reason
        with pytest.raises(ResolveError) as caught:
            solve(["foo>1"], index)
        assert "foo 2.0: " in caught.value.what or caught.value.where == "the build of foo 2.0"

    def test_wheels_alone_where_nothing_of_the_range_can_be_built(self, solve, serve):
        index = serve(sdist("foo", "1.0"), wheel("foo", "2.0", tag="cp39-cp39-win_amd64"), SETUPTOOLS)
        with pytest.raises(ResolveError) as caught:
            solve(["foo>1"], index)
        assert "neither a wheel nor a source that can be built fits" in caught.value.hint

    def test_a_withdrawn_source_is_taken_only_where_it_is_asked_for(self, solve, serve):
        index = serve(sdist("foo", "1.0"), sdist("foo", "2.0"), SETUPTOOLS)
        index.yanked = {"foo-2.0.tar.gz"}
        assert versions(solve(["foo"], index)) == {"foo": "1.0"}
        assert versions(solve(["foo==2.0"], index)) == {"foo": "2.0"}

    def test_without_a_wheel_the_newest_source_is_taken_with_what_it_says_it_needs(self, solve, serve):
        """Nothing of it is run: its setup.py would fail."""
        index = serve(sdist("foo", "1.0"), sdist("foo", "2.0", "bar>=1"), wheel("bar", "1.5"), SETUPTOOLS)
        found = solve(["foo"], index)
        assert versions(found) == {"foo": "2.0", "bar": "1.5"}
        assert (found["foo"].file, found["foo"].wheel) == ("foo-2.0.tar.gz", None)
        assert found["foo"].sha256 == hashlib.sha256(index.files["foo-2.0.tar.gz"]).hexdigest()
        assert [entry.file for entry in found["foo"].build.wheels] == [SETUPTOOLS[0]]
        (choice,) = solve.choices
        assert (choice.kind, choice.chosen) == ("source", "2.0 (foo-2.0.tar.gz)")
        assert "no wheel" in choice.reason

    def test_an_older_source_is_looked_at_where_the_newest_does_not_fit(self, solve, serve):
        index = serve(wheel("bar", "1.0", "foo<2"), sdist("foo", "1.0"), sdist("foo", "2.0"), SETUPTOOLS)
        assert versions(solve(["bar"], index)) == {"bar": "1.0", "foo": "1.0"}

    def test_a_pin_that_fits_is_kept_and_so_is_what_was_built_from_it(self, solve, serve):
        index = serve(sdist("foo", "1.0"), SETUPTOOLS)
        source = solve(["foo"], index)["foo"].model_copy(
            update={"wheel": "foo-1.0-py3-none-any.whl", "wheel_size": 1, "wheel_sha256": "0" * 64}
        )
        index.files.update([sdist("foo", "2.0")])
        previous = Platform(**RELEASE, debs=(), wheels=(), sources=(source,))
        assert solve(["foo"], index, previous=previous)["foo"] == source
        assert solve(["foo>1"], index, previous=previous)["foo"].wheel is None

    def test_a_pin_that_was_deleted_stays_with_what_it_is_built_with(self, solve, serve, tmp_path):
        """Also where there is no project of its name any more; what built it was deleted, too."""
        old = dict([sdist("foo", "1.0", "bar>=1"), wheel("bar", "1.0"), SETUPTOOLS])
        first = solve(["foo"], serve(*old.items()))
        previous = Platform(**RELEASE, wheels=(first["bar"],), sources=(first["foo"],))

        def bring(entry):
            (tmp_path / entry.name).write_bytes(old[entry.file])
            return tmp_path / entry.name

        solve.unlisted = Unlisted(bring)
        later = serve(wheel("bar", "2.0"), wheel("setuptools", "81.0"))
        assert solve(["foo"], later, previous=previous) == first

    def test_a_pin_that_was_withdrawn_stays(self, solve, serve):
        index = serve(sdist("foo", "1.0"), sdist("foo", "0.9"), SETUPTOOLS)
        first = solve(["foo"], index)
        index.yanked = {"foo-1.0.tar.gz"}
        previous = Platform(**RELEASE, wheels=(), sources=(first["foo"],))
        assert solve(["foo"], index, previous=previous) == first
        assert versions(solve(["foo"], index)) == {"foo": "0.9"}

    def test_where_only_its_needers_changed_nothing_is_built_again(self, solve, serve):
        index = serve(sdist("foo", "1.0"), wheel("bar", "1.0", "foo"), SETUPTOOLS)
        built = {"wheel": "foo-1.0-py3-none-any.whl", "wheel_size": 1, "wheel_sha256": "0" * 64}
        source = solve(["foo"], index)["foo"].model_copy(update=built)
        previous = Platform(**RELEASE, debs=(), wheels=(), sources=(source,))
        found = solve(["bar"], index, previous=previous)["foo"]
        assert (source.needed_by, found.needed_by) == (("python_packages: foo",), ("bar",))
        assert found == source.model_copy(update={"needed_by": ("bar",)})

    def test_no_binary_asks_for_a_source(self, solve, serve):
        index = serve(wheel("foo", "2.0"), sdist("foo", "1.0"), wheel("bar", "1.0", "foo"), SETUPTOOLS)
        found = solve(["bar", "foo<2", "--no-binary foo"], index)
        assert found["foo"].file == "foo-1.0.tar.gz"
        with pytest.raises(ResolveError, match="no source of bar"):
            solve(["bar", "--no-binary bar"], index)

    def test_a_source_without_a_declared_build_backend_gets_compiler_and_headers(self, solve, serve):
        index = serve(sdist("foo", "1.0", foo__c=""), sdist("lxml", "1.0"), sdist("bar", "1.0"), SETUPTOOLS)
        solve(["foo"], index)
        assert {"gcc", "libc6-dev", "python3.11-dev"} <= set(solve.debs[-1])
        solve(["lxml"], index)
        assert {"gcc", "libxml2-dev", "libxslt1-dev"} <= set(solve.debs[-1])
        solve(["bar"], index)
        assert "gcc" not in solve.debs[-1]
        assert "python3.11" in solve.debs[-1]

    def test_a_table_beside_the_model_adds_to_a_build(self, solve, serve):
        (solve.model / "pyproject.toml").write_text(
            '[tool.tungsten.build.Foo]\ndebs = ["libfoo-dev"]\nrequires = ["cython<4"]\n'
        )
        index = serve(sdist("foo", "1.0"), wheel("cython", "3.0"), wheel("cython", "4.0"), SETUPTOOLS)
        found = solve(["foo"], index)
        assert "libfoo-dev" in solve.debs[-1]
        assert [one.version for one in found["foo"].build.wheels] == ["3.0", "80.0"]

    def test_variables_of_a_build_are_locked_and_another_one_is_built_anew(self, solve, serve):
        index = serve(sdist("foo", "1.0", a__c=""), sdist("bar", "1.0"), SETUPTOOLS)
        asked = ["foo", "bar"]

        def why_built():
            return {one.subject.split()[0]: one.reason for one in solve.choices if one.kind == "source"}

        plain = solve(asked, index)
        assert "environment" not in plain["foo"].to_json()
        why = why_built()
        assert "compiled for any x86_64 processor" in why["foo"]
        assert "[tool.tungsten.build.foo]" in why["foo"]
        assert "processor" not in why["bar"]
        made = {"wheel": "foo-1.0-py3-none-any.whl", "wheel_size": 1, "wheel_sha256": "0" * 64}
        sealed = {**plain, "foo": plain["foo"].model_copy(update=made)}

        def again(before):
            previous = Platform(
                **RELEASE, debs=(), wheels=(), sources=tuple(before[name] for name in ("foo", "bar"))
            )
            return solve(asked, index, previous=previous)

        assert again(sealed)["foo"].wheel_sha256 == "0" * 64
        (solve.model / "pyproject.toml").write_text(
            '[tool.tungsten.build.Foo]\nenvironment = { CFLAGS = "-mavx2" }\n'
        )
        found = again(sealed)
        assert found["foo"].build.environment == {"CFLAGS": "-mavx2"}
        assert found["foo"].wheel_sha256 is None
        assert "processor" not in why_built()["foo"]

    def test_rust_is_refused_by_name(self, solve, serve):
        index = serve(*(sdist("foo", version, Cargo__toml="") for version in ("1.0", "1.1")), SETUPTOOLS)
        with pytest.raises(ResolveError, match=r"foo 1\.0, 1\.1: .* is in Rust"):
            solve(["foo"], index)

    def test_a_build_requirement_without_a_wheel_is_an_error_that_names_the_build(self, solve, serve):
        index = serve(sdist("foo", "1.0"), sdist("setuptools", "80.0"))
        with pytest.raises(ResolveError, match="setuptools") as caught:
            solve(["foo"], index)
        assert caught.value.where == "the build of foo 1.0"

    def test_where_no_source_helps_uvs_explanation_stands(self, solve, serve):
        index = serve(sdist("foo", "1.0"), SETUPTOOLS)
        with pytest.raises(ResolveError, match="foo>=2"):
            solve(["foo>=2"], index)


class TestPreReleases:
    def test_one_that_nothing_asks_for_is_taken_only_where_there_is_nothing_else(self, solve, serve):
        index = serve(
            wheel("foo", "1.0rc1"), wheel("bar", "1.0", "foo"), wheel("baz", "1.0"), wheel("baz", "2.0rc1")
        )
        assert versions(solve(["bar", "baz"], index)) == {"bar": "1.0", "baz": "1.0", "foo": "1.0rc1"}
        (choice,) = solve.choices
        assert (choice.kind, choice.subject, choice.chosen) == (
            "pre-release",
            "foo is a pre-release",
            "1.0rc1",
        )
        assert choice.reason == "there is no final release that can be had"

    def test_the_final_release_that_a_line_allows_comes_before_one_that_needs_less(self, solve, serve):
        """Its newest final release needs what is not there: an older one is taken, not a pre-release."""
        index = serve(
            wheel("foo", "1.2"), wheel("foo", "1.3", "gone"), wheel("foo", "1.4rc1"), wheel("gone", "1.0rc1")
        )
        index.files.pop("gone-1.0rc1-py3-none-any.whl")
        assert versions(solve(["foo>=1"], index)) == {"foo": "1.2"}

    def test_a_packages_own_need_of_one_is_met_and_told(self, solve, serve):
        index = serve(
            wheel("foo", "1.0"),
            wheel("foo", "2.0rc1"),
            wheel("bar", "1.0"),
            wheel("bar", "2.0", "foo>=2.0rc1"),
        )
        assert versions(solve(["bar"], index)) == {"bar": "2.0", "foo": "2.0rc1"}
        assert [(one.kind, one.reason) for one in solve.choices] == [
            ("pre-release", "bar 2.0 needs foo>=2.0rc1")
        ]

    def test_one_that_the_model_asks_for_needs_no_word(self, solve, serve):
        index = serve(wheel("foo", "1.0"), wheel("foo", "2.0rc1"))
        assert versions(solve(["foo>=2.0rc0"], index)) == {"foo": "2.0rc1"}
        assert solve.choices == []
        assert versions(solve(["foo>=1.0rc0"], index)) == {"foo": "1.0"}


def reasons(choices):
    return {choice.subject.split()[0]: choice.reason for choice in choices if choice.kind == "older"}


class TestWhatIsOlder:
    def test_who_holds_back_is_told(self, solve, serve):
        index = serve(
            wheel("foo", "1.9"),
            wheel("foo", "2.0"),
            wheel("bar", "1.0", "foo<2", "qux<3"),
            wheel("qux", "2.0"),
            wheel("qux", "3.0"),
        )
        assert versions(solve(["foo", "bar"], index)) == {"foo": "1.9", "bar": "1.0", "qux": "2.0"}
        # qux is what bar asks for, and foo is not what the model does.
        assert reasons(solve.choices) == {"foo": "not 2.0: bar 1.0 needs foo<2"}
        solve(["foo<2", "bar"], index)
        assert solve.choices == []

    def test_nothing_is_fetched_to_explain_a_pin(self, solve, serve):
        index = serve(wheel("foo", "1.0"))
        (old,) = solve(["foo"], index).values()
        index.files.update([wheel("foo", "2.0", "bar")])
        index.asked.clear()
        previous = Platform(**RELEASE, debs=(), wheels=(old,))
        solve(["foo"], index, previous=previous)
        assert reasons(solve.choices) == {"foo": "not 2.0: it was locked before, and still fits"}
        assert not any("foo-2.0" in path for path in index.asked)

    def test_a_limit_of_the_models_is_one(self, solve, serve):
        index = serve(wheel("foo", "1.0"), wheel("foo", "2.0"))
        solve(["foo", "-c foo<2"], index)
        assert reasons(solve.choices) == {"foo": "not 2.0: foo<2 is a limit"}

    def test_another_python_and_another_platform_are_told(self, solve, serve):
        index = serve(
            wheel("foo", "1.0"),
            wheel("foo", "2.0"),
            wheel("bar", "1.0"),
            wheel("bar", "2.0", tag="cp311-cp311-win_amd64"),
        )
        index.requires_python = {"foo-2.0-py3-none-any.whl": "&gt;=3.12"}
        assert versions(solve(["foo", "bar"], index)) == {"foo": "1.0", "bar": "1.0"}
        assert reasons(solve.choices) == {
            "foo": "not 2.0: it is not for Python 3.11",
            "bar": "not 2.0: no wheel of it fits this Python and platform, and there is no source",
        }

    def test_what_the_newest_needs_and_is_not_there_is_told(self, solve, serve):
        index = serve(
            wheel("foo", "1.0"), wheel("foo", "2.0", "bar>=2"), wheel("bar", "1.0"), wheel("bar", "2.0")
        )
        assert versions(solve(["foo", "bar<2"], index))["foo"] == "1.0"
        assert reasons(solve.choices) == {"foo": "not 2.0: it needs bar>=2, and 1.0 is locked"}

    def test_what_follows_a_package_is_no_reason_for_it_where_there_is_another(self, solve, serve):
        index = serve(
            *(wheel("foo", version, f"bar=={version}", f"baz>={version}") for version in ("1.0", "2.0")),
            *(wheel("bar", version) for version in ("1.0", "2.0")),
            *(wheel("baz", version) for version in ("1.0", "2.0")),
            wheel("qux", "1.0", "quux"),
            wheel("quux", "1.0", "baz<2"),
        )
        assert versions(solve(["foo", "qux"], index))["foo"] == "1.0"
        assert reasons(solve.choices) == {"foo": "not 2.0: it needs baz>=2.0, and 1.0 is locked"}

    @pytest.mark.parametrize(
        ("entries", "gpu", "reason"),
        [
            (["torch"], "12.4", "cuda_version='12.4' allows no newer one"),
            (["torch"], "12.6", "cuda_version='12.6' allows no newer one"),
            (
                ["torch", "old"],
                "12.6",
                "cuda_version='12.6' allows none above 2.7.0, and that is not taken: old 1.0 needs torch<2.7",
            ),
            (["torch", "cupy-cuda12x"], "", "the CUDA that all packages can work with allows no newer one"),
            (["torch"], "13", None),
            (["torch"], "", None),
        ],
    )
    def test_what_a_cuda_version_forbids_is_said_first_and_alone(self, solve, serve, entries, gpu, reason):
        """What torch needs besides follows it, and says nothing of why it is old."""
        runtime = "nvidia_cuda_runtime"
        index = serve(
            wheel("torch", "2.6.0", f"{runtime}_cu12>=12.4.1,<12.7", "sympy==1.13.1", "triton==3.2.0"),
            wheel("torch", "2.7.0", f"{runtime}_cu12==12.6.77", "sympy>=1.13.3", "triton==3.3.0"),
            # Its runtime comes by what is between.
            wheel("torch", "2.15.0", "cuda-toolkit[cudart]==13.0.2", "sympy>=1.13.3", "triton~=3.9.0"),
            wheel("cuda_toolkit", "13.0.2", f"{runtime}==13.0.96 ; extra == 'cudart'"),
            *(wheel(f"{runtime}_cu12", version) for version in ("12.4.127", "12.6.77")),
            wheel(runtime, "13.0.96"),
            *(wheel("sympy", version) for version in ("1.13.1", "1.13.3")),
            *(wheel("triton", version) for version in ("3.2.0", "3.3.0", "3.9.0")),
            wheel("old", "1.0", "torch<2.7"),
            wheel("cupy_cuda12x", "14.2.0", f"{runtime}_cu12 ; extra == 'ctk'"),
            *(wheel("pydantic", "2.12"), wheel("pillow", "12.0"), wheel("typing_extensions", "4.15")),
        )
        solve(entries, index, gpu=gpu)
        found = reasons(solve.choices)
        assert found.get("torch") == (reason and f"not 2.15.0: {reason}")
        assert not {"sympy", "triton"} & found.keys()


PROJECT = '[project]\nname = "lib"\nversion = "1.2"\ndependencies = ["bar"]\n'


class TestDirect:
    def test_a_url_of_a_wheel_with_its_hash(self, solve, serve):
        name, data = wheel("foo", "1.0", "bar")
        index, other = serve(wheel("bar", "1.0"), wheel("foo", "9.0")), serve((name, data))
        url = f"{other.url}/files/{name}"
        found = solve([f"foo @ {url}#sha256={hashlib.sha256(data).hexdigest()}"], index)
        assert (found["foo"].version, found["foo"].url) == ("1.0", url)
        assert found["foo"].sha256 == hashlib.sha256(data).hexdigest()
        assert found["bar"].url is None

    def test_without_a_hash_the_one_that_it_has_is_locked(self, solve, serve):
        name, data = wheel("foo", "1.0")
        index = serve((name, data))
        assert (
            solve([f"foo @ {index.url}/files/{name}"], index)["foo"].sha256
            == hashlib.sha256(data).hexdigest()
        )

    def test_another_hash_is_an_error(self, solve, serve):
        index = serve(wheel("foo", "1.0"))
        with pytest.raises(UnusableError, match="another file"):
            solve([f"foo @ {index.url}/files/foo-1.0-py3-none-any.whl#sha256={'0' * 64}"], index)

    def test_a_url_that_is_not_there_is_an_error(self, solve, serve):
        index = serve(SETUPTOOLS)
        with pytest.raises(FetchError, match="HTTP 404"):
            solve([f"foo @ {index.url}/files/foo-1.0.tar.gz"], index)

    def test_all_paths_that_lead_nowhere_are_named_at_once(self, solve, serve):
        with pytest.raises(
            UnusableError, match=r"no such file or folder: \./one, \./two-1-py3-none-any\.whl"
        ):
            solve(["./one", "./two-1-py3-none-any.whl"], serve(SETUPTOOLS))

    def test_a_folder_that_is_no_project_is_named_as_it_was_written(self, tmp_path):
        (tmp_path / "lib").mkdir()
        (tmp_path / "scratch").mkdir()
        sources = Sources(tmp_path, tmp_path / "scratch", index_of(print), lambda line: None)
        (wanted,) = parse(["./lib"]).requirements
        with pytest.raises(UnusableError, match="no Python project") as caught:
            sources.direct(wanted)
        assert caught.value.where == "./lib"

    def test_an_escaped_slash_leads_out_of_no_folder(self, tmp_path):
        saved = []

        def save(url, place):
            saved.append(place)
            place.write_bytes(b"")

        (tmp_path / "scratch").mkdir()
        sources = Sources(tmp_path, tmp_path / "scratch", index_of(save), lambda line: None)
        (wanted,) = parse(["foo @ https://host.example/..%2F..%2Ffoo-1.0.tar.gz"]).requirements
        with pytest.raises(UnusableError, match="is no archive"):
            sources.direct(wanted)
        assert [place.resolve().parent.parent for place in saved] == [tmp_path / "scratch"]

    def test_a_url_of_a_source(self, solve, serve):
        name, data = sdist("foo", "1.0")
        index = serve((name, data), SETUPTOOLS)
        found = solve([f"foo @ {index.url}/files/{name}"], index)["foo"]
        assert (found.url, found.file, found.version) == (f"{index.url}/files/{name}", name, "1.0")

    def test_a_local_wheel(self, solve, serve):
        name, data = wheel("foo", "1.0")
        (solve.model / name).write_bytes(data)
        found = solve([f"./{name}"], serve(SETUPTOOLS))["foo"]
        assert (found.path, found.file, found.url) == (name, name, None)

    def test_a_wheel_for_another_platform_is_refused(self, solve, serve):
        name, data = wheel("foo", "1.0", tag="cp311-cp311-win_amd64")
        (solve.model / name).write_bytes(data)
        with pytest.raises(ResolveError, match="foo"):
            solve([f"./{name}"], serve(SETUPTOOLS))

    @pytest.mark.parametrize("entry", ["./lib", "lib @ ./lib", "Lib @ file:lib"])
    def test_a_local_folder_is_packed(self, solve, serve, entry):
        (solve.model / "lib").mkdir()
        (solve.model / "lib" / "pyproject.toml").write_text(PROJECT)
        found = solve([entry], serve(wheel("bar", "1.0"), SETUPTOOLS))
        assert versions(found) == {"lib": "1.2", "bar": "1.0"}
        assert (found["lib"].path, found["lib"].file) == ("lib", "lib-1.2.tar")

    def test_a_folder_outside_the_models(self, solve, serve):
        (solve.model.parent / "lib").mkdir()
        (solve.model.parent / "lib" / "pyproject.toml").write_text(PROJECT)
        assert solve(["../lib"], serve(wheel("bar", "1.0"), SETUPTOOLS))["lib"].path == "../lib"

    def test_another_projects_folder_is_refused(self, solve, serve):
        (solve.model / "lib").mkdir()
        (solve.model / "lib" / "pyproject.toml").write_text(PROJECT)
        with pytest.raises(UnusableError, match="leads to the project lib"):
            solve(["other @ ./lib"], serve(SETUPTOOLS))

    def test_a_version_that_is_not_stated_may_be_given(self, solve, serve):
        (solve.model / "lib").mkdir()
        (solve.model / "lib" / "setup.py").write_text("raise SystemExit('it was run')")
        index = serve(SETUPTOOLS)
        with pytest.raises(UnusableError, match="does not state its version") as caught:
            solve(["lib @ ./lib"], index)
        pasted = tomllib.loads(caught.value.hint.partition("pyproject.toml:\n")[2])
        assert pasted["tool"]["tungsten"]["build"] == {"lib": {"version": "1.0"}}
        (solve.model / "pyproject.toml").write_text('[tool.tungsten.build.lib]\nversion = "3.0"\n')
        assert versions(solve(["lib @ ./lib"], index)) == {"lib": "3.0"}

    def test_what_is_not_there_is_an_error(self, solve, serve):
        with pytest.raises(UnusableError, match="no such file or folder"):
            solve(["./no-1.0-py3-none-any.whl"], serve(SETUPTOOLS))

    def test_what_a_marker_leaves_out_need_not_be_there(self, solve, serve):
        entry = "lib @ ./no-such-folder ; sys_platform == 'win32'"
        assert versions(solve([entry, "bar"], serve(wheel("bar", "1.0")))) == {"bar": "1.0"}

    def test_a_git_url_is_pinned_to_a_commit(self, solve, serve, tmp_path):
        folder = tmp_path / "repository"
        folder.mkdir()
        (folder / "pyproject.toml").write_text(PROJECT)
        git = ["git", "-c", "user.name=n", "-c", "user.email=e@host.example", "-C", str(folder)]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", "one"], check=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        index = serve(wheel("bar", "1.0"), SETUPTOOLS)
        for entry in (
            f"lib @ git+{folder.as_uri()}",
            f"-e git+{folder.as_uri()}#egg=Lib",
            f"git+{folder.as_uri()}",
        ):
            found = solve([entry], index)["lib"]
            assert (found.git.url, found.git.commit) == (folder.as_uri(), head.stdout.strip())
            assert found.file == "lib-1.2.tar"

    def test_a_repository_whose_project_has_no_name_is_told_with_the_line_to_write(
        self, solve, serve, tmp_path
    ):
        folder = tmp_path / "nameless.git"
        folder.mkdir()
        (folder / "setup.py").write_text("raise SystemExit('it was run')")
        git = ["git", "-c", "user.name=n", "-c", "user.email=e@host.example", "-C", str(folder)]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", "one"], check=True)
        (solve.model / "pyproject.toml").write_text('[tool.tungsten.build.nameless]\nversion = "3.0"\n')
        index = serve(SETUPTOOLS)
        with pytest.raises(UnusableError, match="does not state its name") as caught:
            solve([f"git+{folder.as_uri()}"], index)
        line = re.fullmatch("write '(.*)'", caught.value.hint)[1]
        assert line == f"nameless @ git+{folder.as_uri()}"
        assert versions(solve([line], index)) == {"nameless": "3.0"}

    def test_a_wheels_url_alone_is_its_projects(self, solve, serve):
        name, data = wheel("foo", "1.0")
        index = serve((name, data), wheel("foo", "9.0"))
        found = solve([f"{index.url}/files/{name}"], index)["foo"]
        assert (found.version, found.url) == ("1.0", f"{index.url}/files/{name}")

    def test_a_folders_extras_count(self, solve, serve):
        (solve.model / "lib").mkdir()
        (solve.model / "lib" / "pyproject.toml").write_bytes(
            b"\xef\xbb\xbf" + PROJECT.encode() + b'optional-dependencies = { x = ["baz"] }\n'
        )
        index = serve(wheel("bar", "1.0"), wheel("baz", "1.0"), SETUPTOOLS)
        assert set(solve(["./lib[x]"], index)) == {"lib", "bar", "baz"}


class TestIndexes:
    def test_a_project_is_taken_from_the_first_index_alone_that_knows_it(self, solve, serve):
        """Whoever puts a higher version of a private project's name into the public index is not listened to."""
        public, private = serve(wheel("foo", "9.0"), wheel("bar", "1.0")), serve(wheel("foo", "1.0"))
        assert versions(solve(["foo", "bar"], public, private)) == {"foo": "1.0", "bar": "1.0"}
        assert not any("foo" in path for path in public.asked)

    def test_nor_is_a_source_that_the_public_index_has(self, solve, serve):
        public = serve(sdist("foo", "9.0"), SETUPTOOLS)
        private = serve(sdist("foo", "1.0"))
        assert versions(solve(["foo"], public, private))["foo"] == "1.0"

    def test_a_private_index_is_opened_by_netrc_and_its_password_stands_nowhere(
        self, solve, serve, tmp_path, monkeypatch
    ):
        private = serve(wheel("foo", "1.0"), sdist("bar", "1.0"), SETUPTOOLS, user="me:secret")
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        found = solve(["foo", f"bar @ {private.url}/files/bar-1.0.tar.gz"], private)
        assert versions(found) == {"foo": "1.0", "bar": "1.0"}
        assert "secret" not in "".join(entry.to_json() for entry in found.values())

    def test_a_refusal_shows_no_password(self, solve, serve, monkeypatch, tmp_path):
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        private = serve(wheel("foo", "1.0"), user="me:secret")
        private.url = private.url.replace("//", "//me:wrong@")
        with pytest.raises((ResolveError, FetchError)) as caught:
            solve(["foo"], private)
        assert "wrong" not in str(caught.value)

    def test_a_hash_that_is_given_must_be_that_of_the_file(self, solve, serve):
        name, data = wheel("foo", "1.0")
        index = serve((name, data))
        assert versions(solve([f"foo --hash=sha256:{hashlib.sha256(data).hexdigest()}"], index)) == {
            "foo": "1.0"
        }
        with pytest.raises(ResolveError, match="none of the files whose hashes are given"):
            solve([f"foo --hash=sha256:{'0' * 64}"], index)


def places(found):
    return {name: entry.index for name, entry in found.items()}


class TestPlaces:
    def test_what_a_page_of_links_has_comes_from_there_alone(self, solve, serve):
        """Whoever puts a higher version of a private project's name into the public index is not listened to."""
        public, page = (
            serve(wheel("foo", "9.0"), wheel("bar", "1.0")),
            serve(wheel("foo", "1.0"), sdist("baz", "1.0")),
        )
        entries = ["foo", "bar", f"--find-links {page.url}/links"]
        found = solve(entries, public)
        assert versions(found) == {"foo": "1.0", "bar": "1.0"}
        assert not any("foo" in path for path in public.asked)
        assert places(found) == {"foo": f"--find-links {page.url}/links", "bar": "machine"}
        (choice,) = solve.choices
        assert (choice.subject, choice.chosen) == (f"from --find-links {page.url}/links", "foo")
        assert page.asked.count("/links") == 1

    def test_a_source_of_a_page_of_links_is_one(self, solve, serve):
        public, page = serve(sdist("foo", "9.0"), SETUPTOOLS), serve(sdist("foo", "1.0"))
        found = solve(["foo", f"-f {page.url}/links"], public)
        assert (found["foo"].version, found["foo"].index) == ("1.0", f"--find-links {page.url}/links")
        assert [one.index for one in found["foo"].build.wheels] == ["machine"]

    def test_local_versions_of_a_page_stand_beside_the_indexs(self, solve, serve):
        """They are builds of what the index has (PEP 440)."""
        public, page = serve(wheel("foo", "1.0"), wheel("foo", "2.0")), serve(wheel("foo", "1.0+cpu"))
        links = f"--find-links {page.url}/links"
        assert versions(solve(["foo", links], public)) == {"foo": "2.0"}
        assert versions(solve(["foo<2", links], public)) == {"foo": "1.0+cpu"}

    def test_where_one_place_alone_is_asked_none_is_named(self, solve, serve):
        index = serve(wheel("foo", "1.0"), sdist("bar", "1.0"), SETUPTOOLS)
        found = solve(["foo", "bar"], index)
        assert places(found) == {"foo": None, "bar": None}
        assert "index" not in found["foo"].to_json() + found["bar"].to_json()

    def test_an_index_is_named_by_its_name_by_the_models_text_or_as_the_machines(self, solve, serve):
        public, own, named, machines = (serve(wheel(name, "1.0")) for name in ("a", "b", "c", "d"))
        entries = ["a", "b", "c", "d", f"--extra-index-url {own.url}/simple"]
        found = solve(entries, public, named, machines, indexes={"team": {"url": f"{named.url}/simple"}})
        text = f"--extra-index-url {own.url}/simple"
        assert places(found) == {"a": "machine", "b": text, "c": "team", "d": "machine"}
        assert {choice.subject: choice.chosen for choice in solve.choices} == {
            f"from {text}": "b",
            "from team": "c",
            "from the further indexes and links of the machine's own client": "d",
        }

    def test_projects_are_bound_to_an_index_and_it_to_them(self, solve, serve):
        """An index that mirrors old copies of others' projects beside its own."""
        public = serve(wheel("numpy", "2.0"), wheel("torch-geometric", "9.0"))
        torchs = serve(wheel("numpy", "1.0"), wheel("torch_geometric", "1.0"))
        url = f"{torchs.url}/simple"
        entries = ["numpy", "Torch.Geometric", f"--extra-index-url {url}"]
        assert versions(solve(entries, public)) == {"numpy": "1.0", "torch-geometric": "1.0"}
        torchs.asked.clear()
        found = solve(entries, public, indexes={"torchs": {"url": url, "projects": ["Torch_*"]}})
        assert versions(found) == {"numpy": "2.0", "torch-geometric": "1.0"}
        assert places(found) == {"numpy": "machine", "torch-geometric": "torchs"}
        assert not any("numpy" in path for path in torchs.asked)

    def test_an_error_names_the_way_out(self, solve, serve):
        public, torchs = serve(wheel("numpy", "2.0"), wheel("other", "1.0")), serve(wheel("numpy", "1.0"))
        entries = ["numpy>=2", "other", f"--extra-index-url {torchs.url}/simple"]
        with pytest.raises(ResolveError) as caught:
            solve(entries, public)
        assert f"numpy from --extra-index-url {torchs.url}/simple" in caught.value.hint
        pasted = tomllib.loads(caught.value.hint.partition("pyproject.toml:\n")[2])
        found = solve(entries, public, indexes=pasted["tool"]["tungsten"]["indexes"])
        assert versions(found) == {"numpy": "2.0", "other": "1.0"}

    def test_an_index_that_refuses_what_it_has_not_may_be_said_to(self, solve, serve):
        public, torchs = serve(wheel("bar", "1.0")), serve(wheel("foo", "1.0"))
        torchs.refuses = 403
        entries = ["foo", "bar", f"--extra-index-url {torchs.url}/simple"]
        with pytest.raises(FetchError, match="HTTP 403") as caught:
            solve(entries, public)
        assert not any("bar" in path for path in public.asked)
        pasted = tomllib.loads(caught.value.hint.partition("pyproject.toml:\n")[2])
        found = solve(entries, public, indexes=pasted["tool"]["tungsten"]["indexes"])
        assert versions(found) == {"foo": "1.0", "bar": "1.0"}

    def test_a_refusal_of_the_machines_own_index_is_not_taken_for_an_unknown_name(self, solve, serve):
        index = serve(wheel("foo", "1.0"))
        index.refuses = 403
        with pytest.raises(FetchError, match="HTTP 403") as caught:
            solve(["bar"], index)
        assert caught.value.hint.endswith("[tool.tungsten.indexes.machine]\nmissing = 403")
        with pytest.raises(ResolveError, match="not found in the package registry"):
            solve(["bar"], index, indexes={"machine": {"missing": 403}})

    def test_a_wheel_may_not_say_where_others_are_to_be_had(self, solve, serve):
        url = "https://h.example/bar-1.0-py3-none-any.whl"
        new = wheel("foo", "2.0", f"bar @ {url}")
        with_extra = wheel("baz", "1.0", f"bar @ {url} ; extra == 'bar'")
        index = serve(wheel("foo", "1.0"), new, with_extra)
        assert versions(solve(["foo", "baz"], index)) == {"foo": "1.0", "baz": "1.0"}
        assert reasons(solve.choices) == {
            "foo": f"not 2.0: it says itself where another is to be had, which only the model may: bar @ {url}"
        }
        with pytest.raises(ResolveError, match=r"foo 2\.0: it says itself where another is to be had"):
            solve(["foo>=2"], index)
        with pytest.raises(ResolveError, match="bar<0"):
            solve(["baz[bar]"], index)

    def test_a_url_that_the_model_declares_a_wheel_may_say_too(self, solve, serve):
        name, data = wheel("bar", "1.0")
        other = serve((name, data))
        url = f"{other.url}/files/{name}"
        index = serve(wheel("foo", "2.0", f"bar @ {url}"))
        found = solve(["foo", f"bar @ {url}"], index)
        assert (found["bar"].url, found["bar"].needed_by) == (url, ("foo", found["bar"].needed_by[1]))
