"""A corpus of locks that somebody has put something into: each is refused by what it holds, before it is used."""

import copy
import json
import os
import sys

import pytest

from tests import generate
from tests.tungstenkit import locks
from tungstenkit.audit.asked import check_lock, unasked
from tungstenkit.lock.document import LOCK_NAME, parse_lock, read_lock
from tungstenkit.lock.packages import GitCommit
from tungstenkit.lock.parts import AddedDebs, Files, LockedDownload, LockedRepository, RepositoryFile
from tungstenkit.lock.stale import input_digest, made_from
from tungstenkit.lock.unpin import unpinned
from tungstenkit.platforms import Target
from tungstenkit.project.folder import Project
from tungstenkit.resolve.base import Base, groups_on
from tungstenkit.resolve.base_debs import read_system
from tungstenkit.sdk.errors import LockError, TungstenError
from tungstenkit.spec import dockerfile
from tungstenkit.spec.document import DownloadWish, ModelSpec, RepositoryWish

EXAMPLE = generate.ROOT / "examples" / "caption"
SYSTEM = locks.SYSTEM
SHA = "0" * 64
COMMIT = "1" * 40

WISHES = {
    "python_packages": [
        "plain>=1,<3",
        "at-url @ https://files.example/at_url-1-py3-none-any.whl",
        f"hashed==1 --hash=sha256:{SHA}",
        "./lib/at-path",
        "repo @ git+https://git.example/repo@v1#subdirectory=py",
        f"pinned @ git+ssh://git@git.example/pinned@{COMMIT}",
        "git+https://git.example/egg#egg=egg",
        "./at_file-1-py3-none-any.whl",
        "elsewhere ; python_version < '3'",
        "-c deep<5",
    ],
    "system_packages": ["tool", "virtual-tool", "alone-virtual"],
    "files": [
        DownloadWish(url="https://files.example/weights", sha256=None, to="weights", executable=False),
        RepositoryWish(
            repository="o/n", type="model", revision="main", to=None, include=["*.bin"], exclude=["bad.bin"]
        ),
    ],
}


@pytest.fixture
def spec():
    return ModelSpec.from_json((EXAMPLE / "spec.json").read_text()).model_copy(
        update={
            **WISHES,
            "gpu": True,
            "base_image": None,
            "build": {"Repo": {"environment": {"CFLAGS": "-mavx2"}}, "egg": {"debs": ["libfoo-dev"]}},
        }
    )


@pytest.fixture
def lock(spec):
    """One that is this declaration's."""
    asked = [f"python_packages: {text}" for text in spec.python_packages]
    made = {"wheel": "x", "wheel_size": 1, "wheel_sha256": SHA}

    def source(project, text, **fields):
        built = {**made, "wheel": f"{project.replace(chr(45), chr(95))}-1-py3-none-any.whl"}
        return locks.source(project, needed_by=(text,), file="x-1.tar", **fields, **built)

    found = locks.lock(
        locks.deb("libc6", needed_by=("base: libc6", "tool")),
        locks.deb("python3.13", needed_by=("python: python3.13",)),
        locks.deb("tool", needed_by=("system_packages: tool",)),
        locks.deb("mawk", needed_by=("system_packages: virtual-tool",)),
        locks.deb("provider", needed_by=("system_packages: alone-virtual",)),
        locks.deb("libfoo", needed_by=("library: libfoo.so.1 of plain",)),
        locks.wheel("plain", "2", needed_by=(asked[0],)),
        locks.wheel("at-url", url="https://files.example/at_url-1-py3-none-any.whl", needed_by=(asked[1],)),
        locks.wheel("hashed", needed_by=(asked[2],)),
        locks.wheel("deep", needed_by=("plain",)),
        locks.wheel("deeper", needed_by=("deep",)),
        locks.wheel("pydantic", "2.9", needed_by=("sdk: pydantic>=2.7",)),
        source("at-path", asked[3], path="lib/at-path"),
        source(
            "repo",
            asked[4],
            git=GitCommit(url="https://git.example/repo", commit="2" * 40),
            subdirectory="py",
            build=locks.source("repo").build.model_copy(update={"environment": {"CFLAGS": "-mavx2"}}),
        ),
        source("pinned", asked[5], git=GitCommit(url="ssh://git@git.example/pinned", commit=COMMIT)),
        source("egg", asked[6], git=GitCommit(url="https://git.example/egg", commit=COMMIT)),
        locks.wheel("at-file", path="at_file-1-py3-none-any.whl", needed_by=(asked[7],)),
        choices=[
            locks.Choice(kind="virtual", subject="virtual-tool", chosen="mawk", reason=""),
            locks.Choice(kind="library", subject="plain needs libfoo.so.1", chosen="libfoo", reason=""),
        ],
    )
    files = Files(
        downloads=(LockedDownload(url="https://files.example/weights", size=1, sha256=SHA, to="weights"),),
        repositories=(
            LockedRepository(
                repository="o/n",
                type="model",
                revision="main",
                commit=COMMIT,
                include=("*.bin",),
                exclude=("bad.bin",),
                files=(RepositoryFile(path="a.bin", size=1, sha256=SHA),),
            ),
        ),
    )
    return found.model_copy(
        update={
            "files": files,
            "inputs": made_from(spec, "debian"),
            "input_digest": input_digest(spec, "debian"),
        }
    )


def platform(document):
    return document["platforms"][SYSTEM]


def wheel(document, project):
    return next(one for one in platform(document)["wheels"] if one["project"] == project)


def source(document, project):
    return next(one for one in platform(document)["sources"] if one["project"] == project)


def add_wheel(document, **fields):
    one = locks.wheel("evil", **fields).model_dump(mode="json", by_alias=True)
    platform(document)["wheels"].append(one)


def add_deb(document, **fields):
    platform(document)["debs"].append(locks.deb("evil", **fields).model_dump(mode="json", by_alias=True))


def download(document, **fields):
    document["files"]["downloads"].append(
        {"url": "https://evil.example/x", "size": 1, "sha256": SHA, "to": "colorsys.py", **fields}
    )


def base(document, **fields):
    platform(document)["base-image"] = (
        locks.base_image().model_copy(update=fields).model_dump(mode="json", by_alias=True)
    )


def twice(document):
    text = json.dumps(document)
    return text.replace('"lock-version": ', '"sealed": true, "lock-version": ', 1)


CORPUS = {
    # What the model never asked for.
    "a download": (download, "files: https://evil.example/x to colorsys.py"),
    "a download to another place": (
        lambda document: document["files"]["downloads"][0].update(to="tungsten_model.py"),
        "files: https://files.example/weights to tungsten_model.py",
    ),
    "a download from another place": (
        lambda document: document["files"]["downloads"][0].update(url="https://evil.example/weights"),
        "files: https://evil.example/weights",
    ),
    "a download that may be run": (
        lambda document: document["files"]["downloads"][0].update(executable=True),
        "files: https://files.example/weights",
    ),
    "no download": (
        lambda document: document["files"].update(downloads=[]),
        "files: lacks https://files.example/weights",
    ),
    "another repository": (
        lambda document: document["files"]["repositories"][0].update(repository="evil/n"),
        "files: the repository evil/n",
    ),
    "a file that is left out": (
        lambda document: document["files"]["repositories"][0]["files"].append(
            {"path": "bad.bin", "size": 1, "sha256": SHA}
        ),
        "files: bad.bin of o/n",
    ),
    "a file that is not included": (
        lambda document: document["files"]["repositories"][0]["files"].append(
            {"path": "tokenizer.py", "size": 1, "sha256": SHA}
        ),
        "files: tokenizer.py of o/n",
    ),
    "other patterns": (
        lambda document: document["files"]["repositories"][0].update(include=["*"]),
        "files: the repository o/n",
    ),
    "a base image": (base, "base-image: images.example/base:1, and the model names none"),
    "a wheel's URL": (
        lambda document: wheel(document, "plain").update(url="https://evil.example/plain-2-py3-none-any.whl"),
        "plain from https://evil.example/plain-2",
    ),
    "another URL": (
        lambda document: wheel(document, "at-url").update(url="https://evil.example/at_url.whl"),
        "at-url from https://evil.example/at_url.whl",
    ),
    "the index in place of a URL": (
        lambda document: wheel(document, "at-url").update(url=None),
        "at-url @ https://files.example/at_url-1-py3-none-any.whl is not what is locked",
    ),
    "a wheel's path": (
        lambda document: wheel(document, "plain").update(path="../../../../etc/hostname"),
        "plain from ../../../../etc/hostname",
    ),
    "a source's path": (
        lambda document: source(document, "at-path").update(path="../../../../etc"),
        "at-path from ../../../../etc",
    ),
    "another repository of git's": (
        lambda document: source(document, "repo")["git"].update(url="https://evil.example/repo"),
        "repo from https://evil.example/repo",
    ),
    "another commit than the model's": (
        lambda document: source(document, "pinned")["git"].update(commit="3" * 40),
        "is not what is locked",
    ),
    "another folder of a repository": (
        lambda document: source(document, "repo").update(subdirectory="evil"),
        "is not what is locked",
    ),
    "a wheel of a build by URL": (
        lambda document: source(document, "repo")["build"]["wheels"][0].update(
            url="https://evil.example/x.whl"
        ),
        "the build of repo: setuptools from https://evil.example/x.whl",
    ),
    "a wheel of an index that nobody names": (
        lambda document: wheel(document, "plain").update(
            index="--extra-index-url https://evil.example/simple"
        ),
        "plain from --extra-index-url https://evil.example/simple",
    ),
    "a build with a wheel of such an index": (
        lambda document: source(document, "repo")["build"]["wheels"][0].update(index="evil"),
        "setuptools from evil",
    ),
    "a path for a build": (
        lambda document: source(document, "repo")["build"]["wheels"][0].update(path="lib/at-path"),
        "the build of repo: setuptools from lib/at-path",
    ),
    "a server's wheel by URL": (
        lambda document: document["server"][SYSTEM]["wheels"][0].update(url="https://evil.example/x.whl"),
        "from https://evil.example/x.whl",
    ),
    "a server's wheel": (
        lambda document: document["server"][SYSTEM]["wheels"].append(
            locks.wheel("evil").model_dump(mode="json", by_alias=True)
        ),
        "evil, which nobody asked for",
    ),
    "another file than the hash": (
        lambda document: wheel(document, "hashed").update(sha256="9" * 64),
        "and locked is sha256 9999",
    ),
    "a version that is not allowed": (
        lambda document: wheel(document, "plain").update(version="4", file="plain-4-py3-none-any.whl"),
        "plain>=1,<3, and locked is 4",
    ),
    "a version that -c forbids": (
        lambda document: wheel(document, "deep").update(version="7", file="deep-7-py3-none-any.whl"),
        "-c deep<5, and locked is 7",
    ),
    "a requirement less": (
        lambda document: platform(document)["wheels"].remove(wheel(document, "hashed")),
        "is not there",
    ),
    "a wheel without a reason": (add_wheel, "evil, which nobody asked for"),
    "a wheel that is its own reason": (
        lambda document: add_wheel(document, needed_by=("evil",)),
        "evil, which nobody asked for",
    ),
    "a wheel with an invented wish": (
        lambda document: add_wheel(document, needed_by=("python_packages: evil",)),
        "evil, which nobody asked for",
    ),
    "a wheel with another's wish": (
        lambda document: add_wheel(document, needed_by=("python_packages: plain>=1,<3",)),
        "evil, which nobody asked for",
    ),
    "a wheel by a rule of its own": (
        lambda document: add_wheel(document, needed_by=("because: evil", "sdk: evil", "gpu: evil")),
        "evil, which nobody asked for",
    ),
    "a package without a reason": (add_deb, "evil, which nobody asked for"),
    "a package with an invented wish": (
        lambda document: add_deb(
            document, needed_by=("system_packages: evil", "base: evil", "library: x of y")
        ),
        "evil, which nobody asked for",
    ),
    "a package with another's wish": (
        lambda document: add_deb(document, needed_by=("system_packages: tool",)),
        "evil, which nobody asked for",
    ),
    "a package with the wish of what provides it": (
        lambda document: add_deb(document, needed_by=("system_packages: alone-virtual",)),
        "evil, which nobody asked for",
    ),
    "another busybox": (
        lambda document: document["tools"][SYSTEM]["busybox"].update(
            name="evil", version="1", file="mirror://debian/pool/main/evil_1_amd64.deb"
        ),
        "evil, where busybox-static belongs",
    ),
    "a result of a step that there is not": (
        lambda document: platform(document).update(
            {"post-build": {"sees": SHA, "files": {}, "size": 1, "sha256": SHA}}
        ),
        "post-build: the model has none",
    ),
    "a variable of a build": (
        lambda document: source(document, "repo")["build"].update(environment={"CC": "/tmp/evil"}),
        'the build of repo: environment {"CC": "/tmp/evil"}, and the model says {"CFLAGS": "-mavx2"}',
    ),
    "a variable of a build that nothing is said of": (
        lambda document: source(document, "egg")["build"].update(environment={"CC": "/tmp/evil"}),
        'the build of egg: environment {"CC": "/tmp/evil"}, and the model says nothing',
    ),
    "no variables of a build that has some": (
        lambda document: source(document, "repo")["build"].pop("environment") and None,
        'the build of repo: environment nothing, and the model says {"CFLAGS": "-mavx2"}',
    ),
    "results of commands that there are not": (
        lambda document: platform(document).update(commands=[{"sees": SHA, "size": 1, "sha256": SHA}]),
        "commands: 1 results, and the model has 0 such steps",
    ),
    # What no lock may hold at all.
    "control characters": (
        lambda document: platform(document)["wheels"][0].update({"needed-by": ["\x1b]0;owned\x07"]}),
        "holds a control character",
    ),
    "a name that reads backwards": (
        lambda document: document["choices"][0].update(reason="\u202egnp.exe"),
        "holds a control character",
    ),
    "a size beyond all": (lambda document: wheel(document, "plain").update(size=10**30), "size"),
    "a size below all": (lambda document: wheel(document, "plain").update(size=-1), "size"),
    "a text beyond all": (
        lambda document: document["choices"][0].update(reason="x" * (2 << 20)),
        "is longer than",
    ),
    "a platform of nobody": (
        lambda document: document["platforms"].update({"x86_64-linux.evil": platform(document)}),
        "no platform that is known here",
    ),
    "a download above the model's folder": (
        lambda document: document["files"]["downloads"][0].update(to="../../etc/cron.d/x"),
        "leads out of its folder",
    ),
    "an absolute download": (
        lambda document: document["files"]["downloads"][0].update(to="/etc/cron.d/x"),
        "is not relative",
    ),
    "a repository that is a path": (
        lambda document: document["files"]["repositories"][0].update(repository="../../evil"),
        "repository",
    ),
    "a file of a repository above it": (
        lambda document: document["files"]["repositories"][0]["files"][0].update(path="../x.bin"),
        "leads out of its folder",
    ),
    "a revision that is a path": (
        lambda document: document["files"]["repositories"][0].update(revision="../../x"),
        "leads out of its folder",
    ),
    "an absolute path": (
        lambda document: wheel(document, "plain").update(path="/etc/hostname"),
        "not relative",
    ),
    "a home": (lambda document: wheel(document, "plain").update(path="~root/x.whl"), "not relative"),
    "a file's URL": (
        lambda document: wheel(document, "plain").update(url="file:///etc/hostname"),
        "no https or http URL",
    ),
    "a program's URL": (
        lambda document: source(document, "repo")["git"].update(url="ext::sh -c id"),
        "holds a blank",
    ),
    "a password": (
        lambda document: wheel(document, "at-url").update(url="https://me:secret@files.example/x.whl"),
        "user name or password",
    ),
    "a wheel's name that is TOML": (
        lambda document: wheel(document, "plain").update(file='plain-2-1"\n[[x]]-py3-none-any.whl'),
        "file",
    ),
    "a moment that is a path": (
        lambda document: next(iter(document["releases"].values()))["timestamps"].update(debian="../../evil"),
        "timestamps",
    ),
    "a key twice": (twice, "stands twice"),
    "a base image that is a path": (lambda document: base(document, reference="../../x"), "is no reference"),
    "another version": (lambda document: document.update({"lock-version": 4}), "is of a newer tungsten"),
    "a version that is true": (lambda document: document.update({"lock-version": True}), "is not known here"),
}


def test_the_lock_without_any_of_it_fits(lock, spec, tmp_path):
    assert list(unasked(lock, spec)) == []
    check_lock(parse_lock(lock.to_json().encode(), LOCK_NAME), spec, tmp_path / LOCK_NAME)


@pytest.mark.parametrize("example", generate.LOCKED_EXAMPLES, ids=lambda path: path.name)
def test_the_committed_locks_hold_what_is_asked_for(example):
    lock = parse_lock((example / LOCK_NAME).read_bytes(), str(example))
    assert list(unasked(lock, ModelSpec.from_json((example / "spec.json").read_text()))) == []


@pytest.mark.parametrize("name", CORPUS)
def test_what_was_put_into_a_lock_is_named(lock, spec, tmp_path, name):
    change, what = CORPUS[name]
    document = json.loads(lock.to_json())
    changed = change(document)
    text = changed if isinstance(changed, str) else json.dumps(document)
    with pytest.raises(LockError) as caught:
        check_lock(parse_lock(text.encode(), LOCK_NAME), spec, tmp_path / LOCK_NAME)
    assert what in caught.value.what
    assert caught.value.hint
    assert len(str(caught.value)) < 10_000
    assert not any(letter in str(caught.value) for letter in "\x1b\x07\u202e")


def test_all_that_differs_is_named_at_once_and_not_more_than_can_be_read(lock, spec, tmp_path):
    document = json.loads(lock.to_json())
    for number in range(100):
        download(document, to=f"x{number}")
    with pytest.raises(LockError) as caught:
        check_lock(parse_lock(json.dumps(document).encode(), LOCK_NAME), spec, tmp_path / LOCK_NAME)
    assert len(caught.value.what.splitlines()) == 22
    assert caught.value.what.endswith("and 80 more")


def test_a_base_image_is_the_one_of_the_digest_that_the_model_names(lock, spec):
    image = locks.base_image()
    of_model = spec.model_copy(update={"base_image": f"images.example/base:1@sha256:{'5' * 64}"})
    image = image.model_copy(update={"reference": of_model.base_image})
    platforms = {SYSTEM: lock.platforms[SYSTEM].model_copy(update={"base_image": image})}
    (problem,) = unasked(lock.model_copy(update={"platforms": platforms}), of_model)
    assert f"base-image: {image.named}, and the model names sha256:{'5' * 64}" in problem


def test_check_opens_nothing_that_the_declaration_does_not_name(tmp_path, monkeypatch):
    """`--check` packs folders to compare them: not one that only the lock names."""
    lock = json.loads((generate.ROOT / "examples" / "blur" / LOCK_NAME).read_text())
    changed = copy.deepcopy(lock)
    one = locks.wheel("evil", path="../secret", needed_by=("pillow",)).model_dump(mode="json", by_alias=True)
    platform(changed)["wheels"].append(one)
    (tmp_path / "secret").mkdir()
    model = tmp_path / "model"
    model.mkdir()
    (model / LOCK_NAME).write_text(json.dumps(changed))
    spec = ModelSpec.from_json((generate.ROOT / "examples" / "blur" / "spec.json").read_text())
    opened = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[:1])) if event in AUDITED else None)
    with pytest.raises(LockError, match=r"evil from \.\./secret"):
        Project(model, spec).checked_lock()
    assert not [path for path in opened if "secret" in path]


AUDITED = {"open", "os.listdir", "os.scandir"}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_lock_that_never_ends_is_no_lock(tmp_path, kind):
    path = tmp_path / LOCK_NAME
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(TungstenError, match="can't be read"):
        read_lock(path)


def test_a_lock_larger_than_any_is_no_lock():
    with pytest.raises(LockError, match="larger than any lock"):
        parse_lock(b" " * ((64 << 20) + 1), LOCK_NAME)


@pytest.mark.parametrize("has_python", [True, False])
def test_what_stands_beside_a_base_image_is_asked_for_by_rule(lock, spec, has_python):
    """As `resolve.base` has it; `system_packages` is of no effect there."""
    of_model = spec.model_copy(update={"base_image": "images.example/base:1"})
    image = locks.base_image()
    target = Target(SYSTEM, "trixie", "3.13")
    system = read_system("", "", "amd64", has_merged_usr=True)
    groups = groups_on(Base(image, None, "", {}, frozenset(), (), system), target)
    if has_python:
        groups.pop("python", None)
    debs = tuple(
        locks.deb(name, needed_by=(f"{group}: {name}",)) for group, names in groups.items() for name in names
    )
    platforms = {SYSTEM: lock.platforms[SYSTEM].model_copy(update={"base_image": image, "debs": debs})}
    whole = lock.model_copy(update={"platforms": platforms})
    assert debs
    assert list(unasked(whole, of_model)) == []


def test_what_is_installed_into_a_base_image_is_what_a_run_of_apt_leads_to(lock, spec):
    """And by nothing that stands beside it: the two are of different releases."""
    commands = dockerfile.parse(["RUN apt-get install -y git"]).commands
    of_model = spec.model_copy(update={"base_image": "images.example/base:1", "commands": commands})
    debs = (
        locks.deb("git", needed_by=("dockerfile_commands: git",)),
        locks.deb("libcurl4", needed_by=("git",)),
        locks.deb("nmap", needed_by=("tini",)),
    )
    image = locks.base_image().model_copy(update={"added": AddedDebs(release="bookworm", debs=debs)})
    beside = (locks.deb("tini", needed_by=("base: tini",)),)
    platform = lock.platforms[SYSTEM].model_copy(update={"base_image": image, "debs": beside})
    whole = lock.model_copy(update={"platforms": {SYSTEM: platform}})
    assert list(unasked(whole, of_model)) == [f"platforms.{SYSTEM}: nmap, which nobody asked for"]
    assert [release for release, _ in platform.every_deb] == [platform.release, *["bookworm"] * 3]


def test_a_package_that_is_installed_into_a_base_image_moves_when_asked(lock):
    image = locks.base_image().model_copy(
        update={"added": AddedDebs(release="bookworm", debs=(locks.deb("git"), locks.deb("less")))}
    )
    platform = lock.platforms[SYSTEM].model_copy(update={"base_image": image})
    whole = lock.model_copy(update={"platforms": {SYSTEM: platform}})
    left = unpinned(whole, ["git"]).platforms[SYSTEM].added
    assert [deb.name for deb in left.debs] == ["less"]
