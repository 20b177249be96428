"""Where bytes come from: the order of what says so, what counts as Debian, and that no password is ever shown."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tungstenkit import configured
from tungstenkit.debian.release import ReleaseFile
from tungstenkit.fetch import machine_mirrors, web
from tungstenkit.fetch.machine_mirrors import Machine, apt_bases, find_mirrors, oci_mirrors
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.fetch.web import MissingError, get_if_newer
from tungstenkit.sdk.errors import FetchError, TungstenError
from tungstenkit.spec.requirements import parse

OUTPUT = configured.output
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TIMESTAMPS = {"debian": "20260101T000000Z", "debian-security": "20260102T000000Z"}


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine whose clients say what is put here, and whose network holds the archives that are put here."""
    answers, archives, asked = {}, {}, []

    def output(command, environ):
        asked.append(" ".join(command))
        return next((text for key, text in answers.items() if key in asked[-1]), None)

    def verified(bases, suite, certs, get, *, now):
        (base,) = bases
        origin, label = archives.get(base, (None, None))
        if origin is None or (suite.endswith("-security") != (label == "Debian-Security")):
            raise MissingError("no such file")
        return base, ReleaseFile(origin, label, suite, now, True, {})

    monkeypatch.setattr(configured, "output", output)
    configured.pip_files.cache_clear()
    monkeypatch.setattr(machine_mirrors, "fetch_inrelease", verified)
    monkeypatch.setattr(machine_mirrors, "trusted_certificates", lambda *_: [])
    answers["pip config list"] = "global.index-url='https://pip.example/simple/'\n"
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    found = {"answers": answers, "archives": archives, "asked": asked, "apt": tmp_path / "apt"}
    return type("Machine", (), found)


@pytest.fixture
def find(machine):
    def find(environ=None, project=None, wishes=None):
        return find_mirrors(
            project, Machine(environ or {}, machine.apt), now=NOW, get=lambda url: b"", wishes=wishes
        )

    return find


def project(folder, text):
    (folder / "pyproject.toml").write_text(f"[tool.tungsten.mirrors]\n{text}")
    return folder


class TestOrder:
    def test_the_environment_comes_first_then_the_project_then_the_clients(self, find, machine, tmp_path):
        machine.answers["npm config get registry"] = "https://npm.example/\n"
        named = project(
            tmp_path, 'pypi = "https://project.example/simple/"\nnpm = ["https://project.example/npm"]\n'
        )
        assert (find().pypi, find().npm) == ("https://pip.example/simple", "https://npm.example")
        assert (find(project=named).pypi, find(project=named).npm) == (
            "https://project.example/simple",
            "https://project.example/npm",
        )
        environ = {
            "TUNGSTEN_MIRROR_PYPI": "https://variable.example/",
            "TUNGSTEN_MIRROR_NPM": "https://variable.example/n",
        }
        found = find(environ, named)
        assert (found.pypi, found.npm) == ("https://variable.example", "https://variable.example/n")

    @pytest.mark.parametrize("configured", ["", "global.find-links='/wheels'\n"])
    def test_pip_is_started_once_and_where_it_says_nothing_too(self, find, machine, configured):
        machine.answers["pip config list"] = configured
        find({"PIP_INDEX_URL": "https://variable.example"})
        assert len([command for command in machine.asked if "pip config list" in command]) == 1

    def test_pip_is_not_asked_for_files_that_it_would_not_read(self, find, machine):
        machine.answers["uv pip compile --help"] = (
            "--default-index <X> (by default: <https://default.example/simple>)"
        )
        assert find({"PIP_CONFIG_FILE": os.devnull}).pypi == "https://default.example/simple"
        assert not [command for command in machine.asked if "pip config list" in command]

    def test_registries_are_named_by_the_environment_or_the_project_and_nobody_is_asked(
        self, machine, tmp_path
    ):
        (tmp_path / "kept").mkdir()
        named = project(tmp_path, 'oci = ["registry.example/kept", "kept"]\n')
        assert oci_mirrors(named, {}) == ("registry.example/kept", str(tmp_path / "kept"))
        environ = {"TUNGSTEN_MIRROR_OCI": f"other.example/kept {tmp_path}"}
        assert oci_mirrors(named, environ) == ("other.example/kept", str(tmp_path))
        assert oci_mirrors(None, {}) == ()
        assert machine.asked == []

    @pytest.mark.parametrize("value", ['""', "[]", "[1]", "1", "true", '"https://x.example/a"', '"gone"'])
    def test_what_names_no_registry_is_told(self, tmp_path, value):
        with pytest.raises(TungstenError, match=r"no text|can't be read|no reference|no folder") as caught:
            oci_mirrors(project(tmp_path, f"oci = {value}\n"), {})
        assert "pyproject.toml" in caught.value.where

    def test_named_debian_mirrors_are_not_looked_up(self, find, tmp_path):
        named = project(tmp_path, 'debian = ["http://a/d/", "http://b/d"]\ndebian-security = "http://a/s"\n')
        found = find(project=named)
        assert (found.debian, found.debian_security) == (("http://a/d", "http://b/d"), ("http://a/s",))
        assert found.notices == ()

    def test_security_is_the_named_mirrors_sibling_if_there_is_one(self, find, machine):
        environ = {"TUNGSTEN_MIRROR_DEBIAN": "http://m/debian/"}
        assert find(environ).debian_security == ()
        machine.archives["http://m/debian-security"] = ("Debian", "Debian-Security")
        assert find(environ).debian_security == ("http://m/debian-security",)
        environ["TUNGSTEN_MIRROR_DEBIAN_SECURITY"] = "http://elsewhere/s"
        assert find(environ).debian_security == ("http://elsewhere/s",)

    def test_without_a_mirror_the_snapshot_service_serves_and_a_notice_says_so(self, find):
        found = find()
        assert found.debian_bases == {
            "debian": ("https://snapshot.debian.org/archive/debian/20260301T120000Z",),
            "debian-security": ("https://snapshot.debian.org/archive/debian-security/20260301T120000Z",),
        }
        (notice,) = found.notices
        assert "no mirror of debian and debian-security" in notice

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                'debain = "http://a"\npypi = "b"\n',
                "no such mirror: debain\npypi holds what is no http or https URL",
            ),
            ("debian = 3\n", "can't be read"),
            ("debian = [\n", "can't be read"),
            ("debian = []\n", "debian holds what is no http or https URL"),
        ],
    )
    def test_a_bad_table_is_refused(self, find, tmp_path, text, message):
        with pytest.raises(TungstenError) as caught:
            find(project=project(tmp_path, text))
        assert message in caught.value.what
        assert caught.value.where == str(tmp_path / "pyproject.toml")

    def test_a_variable_that_holds_no_url_is_refused(self, find):
        with pytest.raises(TungstenError, match="no http or https URL") as caught:
            find({"TUNGSTEN_MIRROR_DEBIAN": "/var/mirror"})
        assert caught.value.where == "TUNGSTEN_MIRROR_DEBIAN"

    @pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1\n"])
    def test_a_project_need_not_name_any(self, find, tmp_path, text):
        (tmp_path / "pyproject.toml").write_text(text)
        assert find(project=tmp_path).pypi == "https://pip.example/simple"
        assert find(project=tmp_path / "none").pypi == "https://pip.example/simple"


class TestApt:
    def test_both_formats_are_read_in_apts_order(self, machine):
        (machine.apt / "sources.list").write_text(
            "# deb http://comment/d x main\n"
            "deb http://one/debian/ bookworm main\n"
            "deb [arch=amd64 signed-by=/k.gpg] https://two/debian bookworm main contrib # note\n"
            "deb-src http://source/debian bookworm main\n"
            "deb cdrom:[Debian]/ bookworm main\n"
        )
        (machine.apt / "sources.list.d" / "a.sources").write_text(
            "# a comment\nTypes: deb deb-src\nURIs: http://three/debian/\n http://four/debian\nSuites: bookworm\n"
            "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n x\n\n"
            "Enabled: no\nTypes: deb\nURIs: http://off/debian\nSuites: bookworm\n\n"
            "types: deb\nuris: http://one/debian http://five/debian\nsuites: bookworm\n\n"
            "Types: deb-src\nURIs: http://source/debian\n"
        )
        (machine.apt / "sources.list.d" / "b.sources.disabled").write_text(
            "Types: deb\nURIs: http://off/debian\n"
        )
        hosts = ["one", "two", "three", "four", "five"]
        assert list(apt_bases(machine.apt)) == [
            f"{'https' if host == 'two' else 'http'}://{host}/debian" for host in hosts
        ]

    def test_a_source_counts_only_as_what_its_signed_release_says(self, find, machine):
        lines = (
            f"deb http://{name}/d bookworm main\n"
            for name in ("third", "ubuntu", "one", "two", "sec", "silent")
        )
        (machine.apt / "sources.list").write_text("".join(lines))
        machine.archives.update(
            {
                "http://one/d": ("Debian", "Debian"),
                "http://two/d": ("Debian", "Debian"),
                "http://sec/d": ("Debian", "Debian-Security"),
                "http://third/d": ("Debian Backports", "Debian"),
                "http://ubuntu/d": ("Ubuntu", "Ubuntu"),
            }
        )
        found = find()
        assert found.debian == ("http://one/d", "http://two/d")
        assert found.debian_security == ("http://sec/d",)
        assert found.notices == ()

    def test_security_is_the_sibling_of_what_apt_knows(self, find, machine):
        """As in images whose apt knows the main archive alone."""
        (machine.apt / "sources.list").write_text("deb http://m/debian bookworm main\n")
        machine.archives["http://m/debian"] = ("Debian", "Debian")
        (notice,) = find().notices
        assert "no mirror of debian-security that" in notice
        machine.archives["http://m/debian-security"] = ("Debian", "Debian-Security")
        found = find()
        assert (found.debian, found.debian_security) == (("http://m/debian",), ("http://m/debian-security",))
        assert found.notices == ()

    def test_no_apt_is_no_error(self, tmp_path):
        assert list(apt_bases(tmp_path / "none")) == []


class TestClients:
    def test_where_pip_is_set_to_nothing_its_default_is_uvs(self, find, machine):
        machine.answers["pip config list"] = "global.timeout='3'\n"
        machine.answers["uv pip compile --help"] = (
            "--default-index <DEFAULT_INDEX>\n    The default package index (by default: <https://uv.example/simple>)"
        )
        assert find().pypi == "https://uv.example/simple"

    def test_the_more_special_setting_of_pip_wins(self, find, machine):
        machine.answers["pip config list"] = (
            "global.index-url='https://global.example/'\ndownload.index-url='https://download.example/'\n"
        )
        assert find().pypi == "https://download.example"
        assert find({"PIP_INDEX_URL": "https://variable.example/"}).pypi == "https://variable.example"

    def test_no_python_index_is_an_error(self, find, machine):
        machine.answers.clear()
        with pytest.raises(TungstenError, match="no Python index is known"):
            find()

    @pytest.mark.parametrize("answer", ["", "undefined\n"])
    def test_npm_need_not_be_there(self, find, machine, answer):
        machine.answers["npm config get registry"] = answer
        assert find().npm is None


class TestTogether:
    def test_apt_pip_and_npm_are_asked_side_by_side(self, machine, monkeypatch):
        """Each waits for the two others; one after the other, none would ever go on."""
        all_three = threading.Barrier(3)
        said = configured.output

        def output(command, environ):
            if command[-2:] == ["config", "list"] or command[0] == "npm":
                all_three.wait(timeout=60)
            return said(command, environ)

        def look(*_):
            all_three.wait(timeout=60)
            return ()

        monkeypatch.setattr(configured, "output", output)
        monkeypatch.setattr(machine_mirrors, "apt_bases", look)
        assert (
            find_mirrors(None, Machine({}), now=NOW, get=lambda url: b"").pypi == "https://pip.example/simple"
        )

    def test_a_client_is_started_once_for_one_environment(self, tmp_path):
        command = ["sh", "-c", f"echo $NAME | tee -a {tmp_path}/started"]
        environ = {"PATH": os.environ["PATH"]}
        answers = [OUTPUT(command, environ | {"NAME": name}) for name in ("a", "b", "a", "b")]
        assert answers == ["a\n", "b\n", "a\n", "b\n"]
        assert (tmp_path / "started").read_text() == "a\nb\n"

    def test_who_asks_meanwhile_waits_for_the_same_answer(self, tmp_path):
        command = ["sh", "-c", f"echo once >> {tmp_path}/started; mktemp -u"]
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda _: OUTPUT(command, {"PATH": os.environ["PATH"]}), range(8))
            assert len(set(answers)) == 1
        assert (tmp_path / "started").read_text() == "once\n"


class TestSecurityTracker:
    @pytest.fixture
    def tracker(self, machine, tmp_path):
        def tracker(os_release, environ=None):
            path = tmp_path / "os-release"
            path.write_text(os_release)
            of = Machine(environ or {}, machine.apt, path)
            return find_mirrors(None, of, now=NOW, get=lambda url: b"").security_tracker

        return tracker

    @pytest.mark.parametrize(
        ("os_release", "url"),
        [
            (
                'ID=debian\nHOME_URL="https://www.project.example/"\n',
                "https://security-tracker.project.example/tracker/data/json",
            ),
            ('ID=other\nID_LIKE=debian\nHOME_URL="https://www.other.example/"\n', None),
            ("ID=debian\n", None),
            ("", None),
        ],
    )
    def test_a_debian_machine_knows_its_projects_tracker(self, tracker, os_release, url):
        assert tracker(os_release) == url

    def test_it_can_be_named(self, tracker):
        named = {"TUNGSTEN_SECURITY_TRACKER": "https://tracker.example/json"}
        assert tracker("ID=debian\nHOME_URL=https://a.example", named) == "https://tracker.example/json"

    def test_a_machine_need_not_say_what_it_is(self, find, tmp_path, machine):
        of = Machine({}, machine.apt, tmp_path / "none")
        assert find_mirrors(None, of, now=NOW, get=lambda url: b"").security_tracker is None


class TestUrls:
    MIRRORS = Mirrors(("http://a/d", "http://b/d"), ("http://a/s",), "http://p", None, NOW)

    def test_mirrors_come_before_the_snapshot(self):
        assert self.MIRRORS.urls("mirror://debian/pool/x.deb", TIMESTAMPS) == [
            "http://a/d/pool/x.deb",
            "http://b/d/pool/x.deb",
            "https://snapshot.debian.org/archive/debian/20260101T000000Z/pool/x.deb",
        ]

    def test_security_has_its_own_mirrors_and_timestamp(self):
        assert self.MIRRORS.urls("mirror://debian-security/pool/x.deb", TIMESTAMPS) == [
            "http://a/s/pool/x.deb",
            "https://snapshot.debian.org/archive/debian-security/20260102T000000Z/pool/x.deb",
        ]

    @pytest.mark.parametrize("uri", ["http://a/x", "mirror://other/x", "mirror://debian/", "debian/pool"])
    def test_anything_else_is_refused(self, uri):
        with pytest.raises(ValueError, match="not a file of a mirror"):
            self.MIRRORS.urls(uri, TIMESTAMPS)


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr(web, "_pause", slept.append)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return slept


def test_mirrors_show_no_url(find):
    assert "secret" not in repr(find({"TUNGSTEN_MIRROR_PYPI": "https://user:secret@host/simple"}))


def test_what_is_still_the_same_is_not_fetched_again(server):
    server.answers["/x"] = [(200, "text/plain", b"data"), (304, "text/plain", b"")]
    assert get_if_newer(f"{server.url}/x", None) == (b"data", None)
    assert get_if_newer(f"{server.url}/x", '"v1"') is None
    assert [headers.get("If-None-Match") for _, headers in server.seen] == [None, '"v1"']


class TestWheelUrls:
    NAMES = ("a_b-1-py3-none-any.whl", "a_b-2-py3-none-any.whl")

    def mirrors(self, server):
        return Mirrors((), (), f"{server.url}/simple", None, NOW)

    def test_the_json_api_is_preferred(self, server):
        page = {
            "files": [
                {"filename": self.NAMES[0], "url": "../../files/x.whl#sha256=00"},
                {"filename": "other", "url": "y"},
            ]
        }
        server.answers["/simple/a-b/"] = [
            (200, "application/vnd.pypi.simple.v1+json", json.dumps(page).encode())
        ]
        assert self.mirrors(server).wheel_urls("A._b", self.NAMES) == {
            self.NAMES[0]: f"{server.url}/files/x.whl"
        }
        assert server.seen[0][1]["Accept"].startswith("application/vnd.pypi.simple.v1+json")

    def test_an_html_index_serves_too(self, server):
        page = (
            f'<a href="https://files.example/{self.NAMES[0]}#sha256=00" data-x="1">one</a>'
            f'<a href="/p/{self.NAMES[1].replace("_", "%5F")}">two</a><a name="n">no link</a>'
        )
        server.answers["/simple/a-b/"] = [(200, "text/html; charset=utf-8", page.encode())]
        assert self.mirrors(server).wheel_urls("a-b", self.NAMES) == {
            self.NAMES[0]: f"https://files.example/{self.NAMES[0]}",
            self.NAMES[1]: f"{server.url}/p/{self.NAMES[1].replace('_', '%5F')}",
        }

    def test_an_unknown_project_is_an_error(self, server):
        with pytest.raises(FetchError, match="no index has such a project"):
            self.mirrors(server).wheel_urls("nothing", self.NAMES)

    @pytest.mark.parametrize("body", [b"[]", b"{}", b"<html>"])
    def test_what_is_no_project_page_is_an_error(self, server, body):
        server.answers["/simple/a-b/"] = [(200, "application/vnd.pypi.simple.v1+json", body)]
        with pytest.raises(FetchError, match="no project page"):
            self.mirrors(server).wheel_urls("a-b", self.NAMES)

    def test_a_further_index_comes_first_and_the_public_one_is_asked_only_for_what_it_lacks(self, server):
        """So that names of private projects are not told to the public index."""
        public = Mirrors((), (), f"{server.url}/simple", None, NOW, extra_indexes=(f"{server.url}/own",))
        page = "".join(f'<a href="/own/{name}">x</a>' for name in self.NAMES)
        server.answers["/own/a-b/"] = [(200, "text/html", page.encode())]
        assert set(public.wheel_urls("a-b", self.NAMES).values()) == {
            f"{server.url}/own/{name}" for name in self.NAMES
        }
        assert [path for path, _ in server.seen] == ["/own/a-b/"]
        assert [file.name for file in public.project_files("a-b")] == list(self.NAMES)

    def test_a_file_of_the_same_name_with_another_hash_is_another_file(self, server):
        both = Mirrors((), (), f"{server.url}/simple", None, NOW, extra_indexes=(f"{server.url}/own",))
        for place, digit in (("own", "1"), ("simple", "2")):
            link = f'<a href="/{place}/{self.NAMES[0]}#sha256={digit * 64}">x</a>'
            server.answers[f"/{place}/a-b/"] = [(200, "text/html", link.encode())]
        found = both.wheel_urls("a-b", self.NAMES[:1], {self.NAMES[0]: "2" * 64})
        assert found == {self.NAMES[0]: f"{server.url}/simple/{self.NAMES[0]}"}

    def test_links_come_before_the_indexes(self, server, tmp_path):
        """A lock's file is found wherever it is; what a new lock may take of a project is what the links have."""
        (tmp_path / self.NAMES[1]).write_bytes(b"")
        (tmp_path / "other-1-py3-none-any.whl").write_bytes(b"")
        mirrors = Mirrors((), (), f"{server.url}/simple", None, NOW, find_links=(str(tmp_path),))
        server.answers["/simple/a-b/"] = [(200, "text/html", f'<a href="{self.NAMES[0]}">x</a>'.encode())]
        found = mirrors.wheel_urls("a-b", self.NAMES)
        assert found[self.NAMES[1]] == (tmp_path / self.NAMES[1]).as_uri()
        assert [file.name for file in mirrors.project_files("a-b")] == [self.NAMES[1]]

    def test_what_is_on_the_indexs_own_host_gets_its_credentials_and_nothing_else_does(self, server):
        base = server.url.replace("//", "//me:secret@")
        page = (
            f'<a href="{server.url}/f/{self.NAMES[0]}">x</a><a href="https://h.example/{self.NAMES[1]}">x</a>'
        )
        server.answers["/simple/a-b/"] = [(200, "text/html", page.encode())]
        assert Mirrors((), (), f"{base}/simple", None, NOW).wheel_urls("a-b", self.NAMES) == {
            self.NAMES[0]: f"{base}/f/{self.NAMES[0]}",
            self.NAMES[1]: f"https://h.example/{self.NAMES[1]}",
        }


class TestFurtherIndexes:
    def test_pips_configuration_and_the_models_own_entries_are_read(self, find, machine, tmp_path):
        machine.answers["pip config list"] = (
            "global.index-url='https://pip.example/simple'\n"
            "global.extra-index-url='https://one.example/simple/ https://two.example/simple file:///opt/x'\n"
            "global.find-links='/opt/wheels'\n"
        )
        found = find()
        assert found.extra_indexes == ("https://one.example/simple", "https://two.example/simple")
        assert found.find_links == ("/opt/wheels",)
        wishes = parse(
            [
                "--extra-index-url https://own.example/simple",
                "-f ./dist",
                "--index-url https://main.example/s",
            ]
        )
        found = find(project=tmp_path, wishes=wishes)
        assert found.pypi == "https://main.example/s"
        assert found.extra_indexes[0] == "https://own.example/simple"
        assert found.find_links[0] == str(tmp_path / "dist")

    def test_what_the_model_says_of_indexes_is_read(self, find, machine, tmp_path):
        machine.answers["pip config list"] = (
            "global.index-url='https://pip.example/simple'\nglobal.extra-index-url='https://one.example/simple'\n"
        )
        (tmp_path / "pyproject.toml").write_text(
            '[tool.tungsten.indexes.team]\nurl = "https://team.example/simple/"\nprojects = ["team-*"]\n'
            '[tool.tungsten.indexes.main]\nurl = "https://pip.example/simple"\n'
        )
        found = find(project=tmp_path, wishes=parse(["--extra-index-url https://own.example/simple"]))
        assert found.extra_indexes == tuple(
            f"https://{name}.example/simple" for name in ("own", "team", "one")
        )
        assert found.indexes["team"] == {"url": "https://team.example/simple", "projects": ["team-*"]}
        assert found.main_label == "main"
        assert found.declared == {
            "https://own.example/simple": "--extra-index-url https://own.example/simple"
        }

    def test_the_mirror_of_this_machine_comes_before_the_models_index(self, find):
        found = find(
            {"TUNGSTEN_MIRROR_PYPI": "https://near.example/s"}, wishes=parse(["-i https://far.example/s"])
        )
        assert found.pypi == "https://near.example/s"

    def test_a_users_password_comes_from_the_keyring(self, find, machine):
        machine.answers["keyring get pip.example me"] = "a/secret\n"
        machine.answers["pip config list"] = "global.index-url='https://me@pip.example/simple'\n"
        found = find()
        assert found.pypi == "https://me:a%2Fsecret@pip.example/simple"
        assert "secret" not in repr(found)
