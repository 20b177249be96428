#!/usr/bin/env python3
"""Run a model's `post_build` in the image's own root, and capture what it made: `post_build.py CONFIG.json OUT.tar`.

The user's code runs in a process of its own, by the same Python, in the folder and with the variables that the model
will have. Afterwards every path that is new or changed below the model's folder and HOME goes into one tar, the same
bytes for the same files; all else must be as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from descendants import adopt, end
from disguises import Disguises
from facts import CERTIFICATES, PROXIES, WHITEOUT
from landlock import forbid_abstract_sockets
from variation import Variation

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

APP = "/app"
HOME = "/home/nonroot"
_NOT_IN_THE_IMAGE = ("/dev", "/proc", "/sys", "/tmp")  # noqa: S108 (the image's own)
_OWNER = (65532, 0)
_PIECE = 1 << 20
_PATIENCE = 30.0  # seconds

# What the model's own process does before it serves: the folder first, and no instance.
_CALL = """
import importlib, sys
folder, module, name = sys.argv[1:]
sys.path[0] = folder
sys.argv = [folder]
getattr(importlib.import_module(module), name).post_build()
"""


class StepError(Exception):
    """Why there is no result, in lines for the user."""


def post_build(config_path: Path, out: Path) -> None:
    """Run it and write the tar."""
    config = json.loads(config_path.read_text("utf-8"))
    # Where secrets are asked for is the user's code's business as little as they are.
    config_path.unlink()
    secrets = _secrets(config)
    # Only now: they may have come by such a socket.
    forbid_abstract_sockets()
    try:
        _run_and_capture(config, secrets, out)
    except StepError as error:
        raise StepError(os.fsdecode(Disguises(secrets).masked(os.fsencode(str(error))))) from None


def _run_and_capture(config: dict[str, Any], secrets: dict[str, str], out: Path) -> None:
    os.umask(0o022)
    before = {top: dict(_walk(top)) for top in (APP, HOME)}
    _run(config, secrets)
    removed = [path for top in (APP, HOME) for path in normalise(top, before[top])]
    if removed:
        lines = "\n  ".join(["left out, since it is no result of post_build:", *_shown(removed)])
        _print(os.fsencode(f"{lines}\n"), Disguises(secrets))
    module = f"{APP}/{config['module'].replace('.', '/')}"
    kept = {f"{module}.py", f"{module}/__init__.py"}
    made = [path for top in (APP, HOME) for path in _changed(top, before[top], kept)]
    _check_secrets(made, secrets)
    write_tar(made, out)
    if not made:
        print("post_build has changed nothing below the model's folder and HOME", flush=True)


def _secrets(config: dict[str, Any]) -> dict[str, str]:
    """The values of the variables that the user has named."""
    names = config["variables"]
    if not names:
        return {}
    told = _ask(config["secrets"]) if config["secrets"] else None
    given = os.environ if told is None else told
    values = {name: given.get(name, "") for name in names}
    missing = [name for name, value in values.items() if not value]
    if missing:
        forbidden = config["secrets"] and told is None
        why = "; tungsten, which has it, can't be asked under this version of Nix" if forbidden else ""
        raise StepError(
            f"post_build needs {', '.join(missing)} in the environment, and whoever builds has not set it{why}"
        )
    return values


def _ask(place: str) -> dict[str, str] | None:
    """The values, from `tungsten` on this machine: a daemon that builds has an environment of its own.

    None where that is forbidden: newer versions of Nix let no build speak to abstract sockets outside of it
    (landlock(7), LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET). Without a daemon, the environment is that of who builds.
    """
    address, nonce = place.split(" ")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect("\0" + address)
            sock.sendall(nonce.encode())
            sock.shutdown(socket.SHUT_WR)
            text = b"".join(iter(lambda: sock.recv(_PIECE), b""))
            values: dict[str, str] = json.loads(text)
        except PermissionError:
            return None
        except (OSError, ValueError) as problem:
            raise StepError(
                f"tungsten, which has the values of post_build's variables, does not answer: {problem}"
            ) from None
    return values


def _run(config: dict[str, Any], secrets: dict[str, str]) -> None:
    variation = Variation(config["variation"])
    environment: dict[str, str] = {**config["environment"]}
    bundle = config["certificates"] or environment["SSL_CERT_FILE"]
    environment.update(dict.fromkeys(CERTIFICATES, bundle))
    # What is not set arrives empty, which some take for a proxy.
    proxies = {name: os.environ[name] for name in PROXIES if os.environ.get(name)}
    environment.update(proxies)
    environment.update({name.upper(): value for name, value in proxies.items() if name != "http_proxy"})
    environment.update(SOURCE_DATE_EPOCH="1", PYTHONDONTWRITEBYTECODE="1")
    # Hugging Face's downloader keeps a journal there, named after the time; no model needs it.
    environment.setdefault("HF_XET_CACHE", "/tmp/xet")  # noqa: S108 (thrown away)
    environment.update(secrets)
    environment.update(variation.environment)
    adopted = adopt()
    child = subprocess.Popen(
        [sys.executable, "-B", "-c", _CALL, APP, config["module"], config["class"]],
        cwd=APP,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=variation.enter,
        start_new_session=True,
    )

    def end_all() -> None:
        end(child.pid, adopted)

    try:
        _show(child, Disguises(secrets), end_all)
    finally:
        # What it has started must not write while its result is read.
        end_all()
    if child.returncode:
        code = child.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        raise StepError(f"post_build {how}")


def _show(child: subprocess.Popen[bytes], secrets: Disguises, end_all: Callable[[], None]) -> None:
    """Pass on what a process prints, line by line, as long as it runs; what has a secret in it, without."""
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    waiting = b""
    while True:
        ended = child.poll() is not None
        if ended:
            # A process that it has left behind may hold the pipe open, or write to it for ever.
            end_all()
        ready, _, _ = select.select([descriptor], [], [], 0.1)
        data = os.read(descriptor, _PIECE) if ready else b""
        waiting += data
        if not data and (ready or ended):
            break
        cut = max(waiting.rfind(b"\n"), waiting.rfind(b"\r")) + 1
        _print(waiting[:cut], secrets)
        waiting = waiting[cut:]
    _print(waiting, secrets)
    child.wait()


def _print(data: bytes, secrets: Disguises) -> None:
    sys.stdout.buffer.write(secrets.masked(data))
    sys.stdout.buffer.flush()


def _walk(top: str) -> Iterator[tuple[str, str]]:
    """All paths below a folder, in order, and what each is: its mode, and its content's digest or its target."""
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        info = entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            yield entry.path, f"link {os.readlink(entry.path)}"  # noqa: PTH115 (Path would tidy it)
        elif entry.is_dir(follow_symlinks=False):
            # Its mode is for the image to say.
            yield entry.path, "dir"
            yield from _walk(entry.path)
        elif stat.S_ISREG(info.st_mode):
            yield entry.path, f"file {_mode(info):o} {_digest(entry.path)}"
        else:
            yield entry.path, "special"


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while data := file.read(_PIECE):
            digest.update(data)
    return digest.hexdigest()


def _mode(info: os.stat_result) -> int:
    """A mode for an image, whose user may have any number in group 0: the group may what the owner may."""
    own = info.st_mode & 0o700
    return own | own >> 3 | info.st_mode & 0o007


def normalise(top: str, before: Container[str]) -> list[str]:
    """Remove what programs leave behind for themselves, and nothing else; the paths.

    Byte-code that has its source, locks of downloads, half downloads, and what Hugging Face's clients note of a
    download. What an offline cache needs (`refs`, `.cache`, `*.lock`) stays, and so does what was there before.
    """
    removed = []
    for folder, folders, files in os.walk(top, topdown=False):
        here = Path(folder)
        for name in sorted(files):
            if _is_leaving(here, name) and str(here / name) not in before:
                (here / name).unlink()
                removed.append(str(here / name))
        for name in sorted(folders):
            path = here / name
            if path.is_symlink() or str(path) in before:
                continue
            if name == ".locks" or path.parts[-3:] == (".cache", "huggingface", "download"):
                shutil.rmtree(path)
                removed.append(str(path))
            elif name == "__pycache__" and not any(path.iterdir()):
                path.rmdir()
    return sorted(removed)


def _is_leaving(folder: Path, name: str) -> bool:
    if name.endswith(".incomplete"):
        return True
    source = re.fullmatch(r"(.+)\.(?:cpython|pypy)-?\d+(?:\.opt-\d)?\.pyc", name)
    if folder.name == "__pycache__" and source:
        return (folder.parent / f"{source[1]}.py").exists()
    return name.endswith(".pyc") and (folder / f"{name[:-1]}").exists()


def _changed(top: str, before: dict[str, str], kept: Container[str]) -> list[str]:
    """The paths below a folder that are to be captured; StepError that names all that may not be as they are."""
    after = dict(_walk(top))
    problems = []
    for path, was in before.items():
        kind = was.split(" ")[0]
        if path not in after:
            problems.append(f"{path}: deleted, and the image will have it all the same")
        elif after[path].split(" ")[0] != kind:
            problems.append(f"{path}: was a {kind}, and is a {after[path].split(' ')[0]} now")
    made = [path for path, now in after.items() if before.get(path) != now]
    for path in made:
        now = after[path]
        if path in kept and path in before:
            problems.append(f"{path}: the model's own module must stay as it is")
        elif os.path.basename(path).startswith(WHITEOUT):  # noqa: PTH119 (text)
            problems.append(f"{path}: in a layer, a name that begins with {WHITEOUT} takes another file away")
        elif now == "special":
            problems.append(f"{path}: neither a file, a folder nor a link")
        elif now.startswith("link ") and (problem := _link_problem(path, now[len("link ") :])):
            problems.append(f"{path}: {problem}")
    if problems:
        raise StepError("\n".join(["post_build leaves what can't be in the image:", *_shown(problems)]))
    return made


def _link_problem(path: str, target: str) -> str | None:
    real = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120 (text)
    if _is_below(real, (APP, HOME)):
        return None
    if _is_below(real, _NOT_IN_THE_IMAGE) or not os.path.exists(real):  # noqa: PTH110
        return f"links to {target}, which is not in the image"
    return None


def _is_below(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def _check_secrets(made: list[str], secrets: dict[str, str]) -> None:
    if not secrets:
        return
    forms = Disguises(secrets)
    holders = [f"{path}: holds the value of {name}" for path in made for name in forms.of_path(path)]
    if holders:
        raise StepError("\n".join(["a secret would be in the image:", *_shown(holders)]))


def write_tar(paths: Iterable[str], out: Path) -> None:
    """Write paths as a PAX tar, in order, with one time and one owner; the same bytes for the same files."""
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(paths):
            info = tar.gettarinfo(path, path.lstrip("/"))
            info.mtime = 1
            info.uid, info.gid = _OWNER
            info.uname = info.gname = ""
            info.mode = 0o777 if info.issym() else 0o775 if info.isdir() else _mode(os.lstat(path))
            if info.isreg():
                with Path(path).open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)


def _shown(paths: list[str]) -> list[str]:
    most = 20
    return paths[:most] + ([f"and {len(paths) - most} more"] if len(paths) > most else [])


if __name__ == "__main__":
    try:
        post_build(Path(sys.argv[1]), Path(sys.argv[2]))
    except StepError as error:
        sys.exit(f"error: {error}")
