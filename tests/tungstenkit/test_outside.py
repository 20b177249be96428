"""Words from outside never become options, schemes or paths: what each may be, and every program that gets one."""

import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress

import pytest
from pydantic import ValidationError

from tests import generate
from tests.machine import needs
from tests.tungstenkit import locks
from tests.tungstenkit.resolve import package_index
from tungstenkit import outside, store
from tungstenkit.audit import diff
from tungstenkit.fetch import archives, carry, hub, packing
from tungstenkit.fetch.download import download
from tungstenkit.fetch.inputs import Contents
from tungstenkit.fetch.locate import locate
from tungstenkit.fetch.mirrors import Mirrors
from tungstenkit.fetch.needs import LockedFile, declared_files, source_files, wheel_file
from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.lock.packages import GitCommit
from tungstenkit.lock.parts import LockedDownload
from tungstenkit.nix_build.engine import image_reference, load_image
from tungstenkit.nix_build.image import Image
from tungstenkit.nix_build.push import check_target, push_image
from tungstenkit.platforms import Target
from tungstenkit.registry import skopeo as registry
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.run import container
from tungstenkit.sdk.errors import FetchError, LockError, ResolveError, TungstenError
from tungstenkit.settings import bad_requirements
from tungstenkit.spec.requirements import wanted
from tungstenkit.watch import UNWATCHED

pytestmark = pytest.mark.timeless(
    "words that become options or schemes have no date, and many programs are started"
)

SHA = "0" * 64


def words(mark):
    """What somebody who means harm writes where a URL, a name or a path belongs. mark: the file that shows it."""
    do = f"touch {mark}"
    return [
        f"--upload-pack={do}",
        f"--upload-pack={do}; true ://",
        f"-u{do}",
        f"git+--upload-pack={do} ://@.",
        f"git+file:///nonexistent@--upload-pack={do};true",
        f"ext::sh -c {shlex.quote(do)}",
        f"ext::sh -c {shlex.quote(do)}".replace(" ", "%20"),
        f"ssh://-oProxyCommand={do.replace(' ', '%20')}/x",
        f"ssh://-oProxyCommand={do}/x",
        f"fd::17/{do}",
        "file:///etc/hostname",
        "file://localhost/etc/hostname",
        "FILE:///etc/hostname",
        "/etc/hostname",
        "https://host.example/a b",
        "https://host.example/a\nb",
        "https://host.example/\x1b[2J",
        "https://-host.example/a",
        "https://[::1/a",
        "https://host.example:port/a",
        "https:///a",
        "javascript:alert(1)",
        "",
        "-",
        "--",
    ]


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "it-was-run"


class Quiet:
    """A progress that nobody looks at."""

    def start(self, files, size):
        pass

    def advance(self, size):
        pass

    def done(self, name):
        pass


class TestUrls:
    def test_none_of_the_words_is_a_url_of_the_web(self, mark):
        for word in words(mark):
            assert outside.url_problem(word), word

    @pytest.mark.parametrize(
        "url",
        ["https://h.example/a", "HTTP://h.example/a", "https://h.example:8443/a%20b?c#d", "http://[::1]:1/a"],
    )
    def test_what_is_one_is_no_problem(self, url):
        assert outside.url_problem(url) is None

    @pytest.mark.parametrize(
        "url", ["https://h/a", "ssh://git@h/a", "git://h/a", "file:///a", "file:///a/..", "http://h:1/a"]
    )
    def test_git_has_more_schemes(self, url):
        assert outside.url_problem(url, outside.GIT) is None

    @pytest.mark.parametrize(
        "url", ["ext::sh", "ssh://-o/x", "ssh://-u@h/x", "file://h/x", "file:x", "fd::1", "h:x"]
    )
    def test_and_not_those_that_run_something(self, url):
        assert outside.url_problem(url, outside.GIT)

    @pytest.mark.parametrize("name", ["main", "v1.0", "feature/a-b", "0" * 40, "a@b", "HEAD", "ä"])
    def test_names_of_git(self, name):
        assert outside.git_name_problem(name) is None

    @pytest.mark.parametrize(
        "name",
        ["", "-x", "--upload-pack=x", "a b", "a:b", "+a", "a..b", "a^", "a~1", "a\nb", "@{-1}", "a//b"],
    )
    def test_and_what_is_none(self, name):
        assert outside.git_name_problem(name)

    @pytest.mark.parametrize(
        "reference",
        ["a", "a:1", "h.example/a/b:T-1", "localhost:5000/a", f"a@sha256:{SHA}", f"h:1/a:1@sha256:{SHA}"],
    )
    def test_references_of_images(self, reference):
        assert outside.image_problem(reference) is None

    def test_and_what_is_no_reference(self, mark):
        more = ["-a", "-h.example/a", "a b", "a\n", "a@", "A", "../a", "a@sha256:x", "dir:/a", "a" * 300]
        for word in [*words(mark), *more]:
            assert outside.image_problem(word), word


class TestAttacks:
    """Each ran its command before any hash was looked at."""

    def test_a_locks_wheel_that_begins_with_git(self, mark):
        with pytest.raises(ValidationError, match="the URL"):
            locks.wheel("x", url=f"git+--upload-pack=touch {mark} ://@.")
        # Nor where nobody has looked at the lock.
        wheel = locks.wheel("x").model_copy(update={"url": f"git+--upload-pack=touch {mark} ://@."})
        entry = wheel_file(wheel)
        assert not entry.is_own
        with pytest.raises(FetchError, match="this URL"):
            download(entry, locate([entry], None, None)[entry.sha256], mark.parent, Quiet())
        assert not mark.exists()

    def test_a_locks_repository_that_is_an_option(self, mark):
        url = f"--upload-pack=touch {mark}; true ://"
        with pytest.raises(ValidationError, match="the URL"):
            GitCommit(url=url, commit="0" * 40)
        commit = GitCommit(url="https://h.example/x", commit="0" * 40).model_copy(update={"url": url})
        entry = source_files(locks.source("x").model_copy(update={"git": commit}), "bookworm")[0]
        assert entry.is_own
        with pytest.raises(FetchError, match="holds a blank"):
            download(entry, [], mark.parent, Quiet())
        assert not mark.exists()

    @pytest.mark.parametrize("form", ["json", "html"])
    def test_an_index_that_lists_a_repository(self, mark, form):
        file = "x-1-py3-none-any.whl"
        for word in words(mark):
            if not word.startswith(("git+", "file:", "FILE:", "ext:", "ssh:", "fd:")):
                continue  # relative to the index's page, and so on the web
            with pytest.raises(FetchError, match="lists a file whose URL"), index({file: word}, form) as url:
                Mirrors((), (), url, None, None).wheel_urls("x", [file])
        entry = LockedFile(file, 1, SHA, project="x")
        for word in words(mark):
            with suppress(FetchError):
                download(entry, [word], mark.parent, Quiet())
        assert not mark.exists()

    def test_of_a_folder_that_is_an_index_files_are_taken(self, tmp_path):
        file = "x-1-py3-none-any.whl"
        (tmp_path / file).write_bytes(b"x")
        with index({}, "json") as url:
            mirrors = Mirrors((), (), url, None, None, find_links=(str(tmp_path),))
            urls = mirrors.wheel_urls("x", [file])
        assert urls == {file: (tmp_path / file).as_uri()}

    @pytest.mark.parametrize("field", ["url", "path"])
    def test_a_lock_takes_none_of_the_words(self, mark, field):
        for word in words(mark):
            if (
                field == "path"
                and not word.startswith("/")
                and word
                and "\n" not in word
                and "\x1b" not in word
            ):
                continue  # a file may be called so; below, none of them is more than that
            with pytest.raises(ValidationError):
                locks.source("x", **{field: word})
        for word in words(mark):
            with pytest.raises(ValidationError):
                LockedDownload(url=word, size=1, sha256=SHA, to="x")
            with pytest.raises(ValidationError):
                GitCommit(url=word.replace("file:", "none:").replace("FILE:", "none:"), commit="0" * 40)

    def test_a_path_that_looks_like_a_repository_is_a_path(self, mark):
        for word in words(mark):
            entry = LockedFile("x.tar", 1, SHA, project="x", local=word)
            with pytest.raises((FetchError, OSError)):
                download(entry, [], mark.parent, Quiet(), mark.parent)
        assert not mark.exists()


class index:  # noqa: N801 - it is used as a function
    """A page of an index that lists files at URLs."""

    def __init__(self, urls, form):
        if form == "json":
            files = [{"filename": name, "url": url, "hashes": {}} for name, url in urls.items()]
            self.page = "application/vnd.pypi.simple.v1+json", json.dumps({"files": files}).encode()
        else:
            links = "".join(f'<a href="{url}">{name}</a>' for name, url in urls.items())
            self.page = "text/html", links.encode()

    def __enter__(self):
        self.server = package_index.pages({"/simple/x/": self.page})
        return f"{self.server.__enter__()}/simple"

    def __exit__(self, *problem):
        return self.server.__exit__(*problem)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Programs on PATH that only write down how they were called; the calls."""
    folder = tmp_path / "programs"
    folder.mkdir()
    log = tmp_path / "calls"
    for name in ("git", "skopeo", "podman", "docker", "nix", "nix-store", "tar", "keyring"):
        program = folder / name
        # A NUL ends each word, and a record separator a call.
        program.write_text(f'#!/bin/sh\nprintf "%s\\0" "$0" "$@" >> {log}\nprintf "\\036" >> {log}\necho x\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def calls():
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return [call.removesuffix("\0").split("\0") for call in text.split("\36") if call]

    return calls


# How many words after an option are its values, whatever they look like.
TAKE = {"-c": 1, "-C": 1, "--option": 2, "--extra-experimental-features": 1, "--format": 1}
ENDS = {"--", "--end-of-options"}


def options_of(call):
    """The words of a call that its program takes for options."""
    rest = iter(call[1:])
    for word in itertools.takewhile(lambda word: word not in ENDS, rest):
        if word.startswith("-"):
            yield word
        for _ in range(TAKE.get(word, 0)):
            next(rest)


def image(folder):
    return Image(folder, f"sha256:{SHA}", f"sha256:{SHA}", 1)


def carried_in(folder):
    """A folder of `fetch --to`, with a file of its own, and another."""
    (folder.parent / "own").write_text("x")
    carry.pack(Contents((), archive={"place": folder.parent / "own"}), folder, UNWATCHED)
    (folder / "blobs" / "sha256" / SHA).touch()
    return folder


PROGRAMS = {
    "git: the URL": lambda word, folder: packing.check_out(word, None, folder / "x.tar"),
    "git: the reference": lambda word, folder: packing.check_out("https://h/x", word, folder / "x.tar"),
    "git: a revision to compare with": lambda word, folder: diff.old_lock(word, folder / "tungsten.lock"),
    "skopeo: a manifest": lambda word, folder: registry.manifest(word),
    "skopeo: a configuration": lambda word, folder: registry.configuration(word),
    "skopeo: layers": lambda word, folder: registry.pull(word, {}, folder, lambda size: None),
    "skopeo: push": lambda word, folder: (check_target(word), push_image(image(folder), word, [])),
    "podman: load": lambda word, folder: load_image(
        image(folder), "podman", image_reference(word, "1", "podman")
    ),
    "podman: the tag": lambda word, folder: load_image(
        image(folder), "podman", image_reference("x", word, "podman")
    ),
    "docker and tar: load": lambda word, folder: load_image(
        image(folder), "docker", image_reference(word, "1", "docker")
    ),
    "podman: the labels": lambda word, folder: container.image_needs("podman", word),
    "nix-store: a file of that name": lambda word, folder: store.missing(
        [store.file_path(SHA, store.store_name(word.rpartition("/")[2]))]
    ),
    "nix-store: what was carried": lambda word, folder: carry.unpack(
        [LockedFile(word, 1, SHA)], LayoutPlace(carried_in(folder / "out")), folder, UNWATCHED
    ),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_no_program_takes_a_word_from_outside_for_an_option(recorded, tmp_path, mark, what):
    ours = None
    for word in ["main", "https://h.example/x", "x.example/a/b:1", *words(mark)]:
        with suppress(TungstenError, ValueError):
            PROGRAMS[what](word, tmp_path)
        for call in recorded():
            assert not [
                one for one in options_of(call) if one == word or (word.strip("-") and one.startswith(word))
            ]
            ours = call
    assert ours, "no word at all led to a call"
    assert not mark.exists()


@needs("git")
def test_git_itself_runs_nothing_by_a_url_or_a_name(tmp_path, mark):
    for word in words(mark):
        for url, ref in ((word, None), (f"file://{tmp_path}", word)):
            with pytest.raises(FetchError):
                packing.check_out(url, ref, tmp_path / "out.tar")
    assert not mark.exists()


@needs("git")
@pytest.mark.parametrize("way", ["ext::sh -c touch% {mark}", "file://{other}"])
def test_a_repositorys_submodules_reach_neither_a_program_nor_this_machine(tmp_path, mark, way):
    repository, other = tmp_path / "repository", tmp_path / "other"

    def git(folder, *arguments):
        who = ["-c", "user.name=n", "-c", "user.email=e@host.example", "-c", "protocol.file.allow=always"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)

    for folder in (repository, other):
        folder.mkdir()
        git(folder, "init", "--quiet")
        git(folder, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(repository, "submodule", "add", "--quiet", other.as_uri(), "sub")
    text = (repository / ".gitmodules").read_text()
    (repository / ".gitmodules").write_text(text.replace(other.as_uri(), way.format(mark=mark, other=other)))
    git(repository, "commit", "--quiet", "-am", "two")
    with pytest.raises(FetchError, match="not allowed"):
        packing.check_out(repository.as_uri(), None, tmp_path / "out.tar")
    assert not mark.exists()


@needs("skopeo")
def test_skopeo_itself_is_not_asked_for_what_is_no_reference(tmp_path, mark):
    for word in words(mark):
        with pytest.raises(FetchError, match="is no reference of an image"):
            registry.manifest(word)


class TestUv:
    TARGET = Target("x86_64-linux", "bookworm", "3.11")

    @pytest.mark.parametrize(
        "text", ["-r /etc/passwd", "--index-url http://h", "x\n-r /etc/passwd", "x @ file:///etc/hostname"]
    )
    def test_what_a_source_is_built_with_is_a_requirement_of_the_index(self, text):
        assert bad_requirements([text])

    def test_what_a_source_needs_comes_by_no_url(self, tmp_path):
        pyproject = '[project]\nname = "x"\nversion = "1"\ndependencies = ["y @ file:///etc/hostname"]\n'
        with zipfile.ZipFile(tmp_path / "x-1.zip", "w") as archive:
            archive.writestr("x-1/pyproject.toml", pyproject)
        with pytest.raises(ResolveError, match="only the model may"):
            archives.read_facts(tmp_path / "x-1.zip", "x-1.zip")

    @pytest.mark.parametrize("way", ["file", "git"])
    def test_an_index_on_the_web_has_no_files_of_this_machine(self, tmp_path, mark, way):
        file, content, _ = package_index.wheel("x", "1")
        (tmp_path / file).write_bytes(content)
        url = (tmp_path / file).as_uri()
        if way == "git":
            url = f"git+file:///nonexistent@--upload-pack=touch {mark};true#{file}"
        with index({file: url}, "json") as place, pytest.raises(TungstenError):
            resolve_wheels(["x"], package_index.view(place, self.TARGET), where="python_packages")
        assert not mark.exists()

    def test_none_of_the_words_is_a_requirement_that_runs_something(self, mark):
        for word in words(mark):
            for text in (word, f"x @ {word}", f"x @ git+{word}", f"x @ git+https://h.example/x@{word}"):
                with suppress(ValueError):
                    found = wanted(text)
                    # What is let through is a path, or git's with a place that git may be asked for.
                    assert found.path or found.git
                    if found.git:
                        assert outside.url_problem(found.git.url, outside.GIT) is None
                        assert found.git.ref is None or outside.git_name_problem(found.git.ref) is None
        assert not mark.exists()


def test_a_revision_to_compare_with_is_no_option(tmp_path, mark):
    for word in (f"--output={mark}", "-h", f"--ext-diff={mark}"):
        with pytest.raises(LockError, match="no git revision"):
            diff.old_lock(word, tmp_path / "tungsten.lock")
    assert not mark.exists()


def test_inputs_of_declared_files_keep_their_url():
    one = LockedDownload(url="https://h.example/x", size=1, sha256=SHA, to="x")
    lock = locks.lock().model_copy(update={"files": locks.files(one)})
    (entry,) = declared_files(lock)
    assert (entry.url, entry.is_own) == ("https://h.example/x", False)


@pytest.mark.parametrize(
    "command",
    [
        ["fetch", "MODEL"],
        ["build", "MODEL", "--no-load"],
        ["lock", "MODEL"],
        ["lock", "MODEL", "--check"],
        ["nix-export", "MODEL", "-o", "OUT"],
        ["why", "pillow", "MODEL"],
    ],
    ids=" ".join,
)
def test_no_command_does_what_a_hostile_lock_says(tmp_path, mark, command):
    model = tmp_path / "model"
    shutil.copytree(generate.ROOT / "examples" / "blur", model, ignore=shutil.ignore_patterns(".tungsten"))
    lock = json.loads((model / LOCK_NAME).read_text())
    wheels = lock["platforms"]["x86_64-linux"]["wheels"]
    wheels[0]["url"] = f"git+--upload-pack=touch {mark} ://@."
    (model / LOCK_NAME).write_text(json.dumps(lock))
    before = sorted(path.name for path in model.iterdir())
    words = [{"MODEL": str(model), "OUT": str(tmp_path / "out")}.get(word, word) for word in command]
    done = subprocess.run(
        [sys.executable, "-m", "tungstenkit", *words], capture_output=True, text=True, cwd=generate.ROOT
    )
    assert done.returncode == 1
    assert re.match(r"error: platforms\.x86_64-linux\.wheels\.0: .*the URL", done.stderr)
    assert "  hint: " in done.stderr
    assert sorted(path.name for path in model.iterdir()) == before
    assert not mark.exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "../x", "size": 1, "oid": "0"},
        {"path": "/etc/passwd", "size": 1, "oid": "0"},
        {"path": "a\x1b[2J", "size": 1, "oid": "0"},
        {"path": "a" * 5000, "size": 1, "oid": "0"},
        {"path": "a", "size": 10**30, "oid": "0"},
        {"path": "a", "size": -1, "oid": "0"},
        {"path": "a", "size": 1, "oid": "0", "lfs": {"oid": SHA, "size": 10**30}},
        {"path": "a", "size": 1, "oid": "0", "lfs": {"oid": "x", "size": 1}},
    ],
)
def test_the_hub_lists_files_that_a_lock_can_hold(entry):
    with pytest.raises(ValueError):  # noqa: PT011 - it becomes an error that names the repository
        hub._file(entry)
