#!/usr/bin/env python3
"""Run the steps of `dockerfile_commands` over the layers below: `run_commands.py CONFIG.json OUT`.

CONFIG names the layers, the model's files and the steps, as `spec.json` has them. It makes its root in the working
directory, where it leaves it, in namespaces of its own, and runs each command apart. OUT becomes a tar of what the
steps changed (`changes`).

What counts is what a container would show: contents, modes, kinds, and what is gone. Times do not, nor what runtimes
make (devices, sockets, named pipes, /proc, /dev, /sys). What was there keeps its owner; what is new is its step's, or,
below the folders of the image's user, that user's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

import apart
from changes import write_changes
from context import Context, inside
from difference import Difference
from facts import PROXIES
from landlock import forbid_abstract_sockets
from program import Config, ToolError, read_json, run
from rootfs import implied_directory
from system import Lower
from unpacking import unpack
from variation import Variation

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

_NO_NETWORK = "a RUN has no network: write RUN --network=default, and its result is locked"
_HINTS = (
    (
        re.compile(
            r"Temporary failure in name resolution|Could not resolve|Name or service not known|getaddrinfo"
            r"|Network is unreachable|Failed to connect|NameResolutionError|unable to resolve host",
            re.IGNORECASE,
        ),
        _NO_NETWORK,
        False,
    ),
    (
        re.compile(r"chmod.*(Operation not permitted|\[Errno 1\])|setuid"),
        "the sandbox of builds allows no setuid or setgid bits",
        None,
    ),
    (
        re.compile(r"(chown|chgrp|lchown).*(Operation not permitted|Invalid argument)|\[Errno 22\].*own"),
        "a build has one user, root: COPY --chown, and USER before a RUN, say whose files are",
        None,
    ),
    (
        re.compile(r"No module named"),
        "python_packages are installed after these commands",
        None,
    ),
    (
        re.compile(r"\b(apt|apt-get|aptitude|apt-key|add-apt-repository|dpkg): (command )?not found"),
        "packages are named in system_packages, or in a RUN that is `apt-get install` alone",
        None,
    ),
    (
        re.compile(r"not found|\.h: No such file or directory"),
        "a program or header of Debian's comes with its package, named in system_packages or RUN apt-get install",
        None,
    ),
)
"""What a failed command's last words call for; the third says for which `network` it does, None for both."""
_DOWNLOADS = re.compile(r"://|\b(curl|wget)\b")
_ON_A_BASE = (
    "there is what the base image has: take one that has it, COPY it, or, on Debian, RUN apt-get install it"
)
"""The hint where no package of Debian's is installed."""
_LAST_WORDS = 30  # lines
_FIRST_DAY = "315532800"  # 1980, the first that a zip archive knows
# What base-files' postinst makes, and every Debian has; only what something is put into becomes a part of the image.
_OF_EVERY_DEBIAN = (
    *("home", "media", "mnt", "opt", "root", "srv", "tmp", "var/tmp"),
    *(f"usr/local/{name}" for name in ("bin", "etc", "games", "include", "lib", "sbin", "share", "src")),
)
_FAKE_TIME = "tmp/libfaketime.so.1"


class Build:
    """A root, and what steps do to it."""

    def __init__(self, root: Path, config: Config, fake_time: str | None, enter: Callable[[], None]) -> None:
        """Take a root that is unpacked already; `fake_time` is where in it the library for another clock is.

        enter: makes that root a process's own, and takes from the process what a command must not have.
        """
        self.root = root
        self.enter = enter
        self.network: bool = config["network"]
        self.on_base: bool = config["on-base"]
        self.context = Context(Path(config["context"])) if config["context"] else None
        self.variation = Variation({**config["variation"], "fake-time": fake_time})
        self.owners: dict[str, tuple[int, int]] = {}

    def take(self, step: Config) -> None:
        """Take one step; `ToolError` with its line where it fails."""
        print(f"{step['where']}: {step['text']}", file=sys.stderr, flush=True)
        try:
            if step["kind"] == "run":
                self._run(step)
            elif step["kind"] == "folder":
                self.folder(step["path"], (step["uid"], step["gid"]))
            else:
                self._copy(step)
        except (ToolError, OSError, tarfile.TarError) as error:
            hint = error.told.get("hint", "") if isinstance(error, ToolError) else ""
            said = f"{step['where']}: {error}" + (f" — {hint}" if hint else "")
            raise ToolError(said, kind="command", where=step["where"], what=str(error), hint=hint) from None

    def _run(self, step: Config) -> None:
        def enter() -> None:
            self.variation.enter()
            os.umask(0o022)
            self.enter()
            os.chdir(step["cwd"])

        # A step before may have removed it; a container runtime makes it again, too.
        self.folder(step["cwd"], (0, 0))
        environment = {"SOURCE_DATE_EPOCH": _FIRST_DAY, **step["environment"], **self.variation.environment}
        if self.network:
            # Empty where whoever builds has none, which some programs take for a proxy.
            environment |= {name: os.environ[name] for name in PROXIES if os.environ.get(name)}
        try:
            process = subprocess.Popen(
                step["argv"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                preexec_fn=enter,
            )
        except FileNotFoundError:
            raise ToolError(f"there is no program {step['argv'][0]} in the image") from None
        assert process.stdout is not None
        words: deque[str] = deque(maxlen=_LAST_WORDS)
        reader = threading.Thread(target=_tell, args=(process.stdout, words))
        reader.start()
        status = process.wait()
        # What a step leaves running ends with it, as in a Dockerfile; it may hold the pipe.
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        reader.join()
        if status != 0:
            raise ToolError(f"the command ended with status {status}", hint=self._hint(words, step["text"]))

    def _hint(self, words: deque[str], text: str) -> str:
        said = "\n".join(words)
        for pattern, hint, network in _HINTS:
            if pattern.search(said) and network in (None, self.network):
                return _ON_A_BASE if self.on_base and "system_packages" in hint else hint
        # What is told to be quiet says nothing of why it failed.
        return _NO_NETWORK if not self.network and _DOWNLOADS.search(text) else ""

    def _copy(self, step: Config) -> None:
        assert self.context is not None  # there is one where a step copies
        owner = (step["uid"], step["gid"])
        mode = int(step["mode"], 8) if step["mode"] else None
        found = [
            (source, path) for source in step["sources"] for path in self.context.matches(source["pattern"])
        ]
        missing = [
            source["path"] for source in step["sources"] if all(source is not other for other, _ in found)
        ]
        if missing:
            raise ToolError(
                f"{', '.join(missing)}: no file of the model's is called that; what include_files and exclude_files"
                " leave out is not there"
            )
        destination = step["destination"]
        is_folder = destination.endswith("/") or inside(self.root, destination).is_dir()
        if len(found) > 1 and not is_folder:
            raise ToolError(f"several files go into one folder: end {destination} with a slash")
        for source, path in found:
            if not path.exists():
                # Of the model's files only those that are named are here.
                raise ToolError(
                    f"{source['path']}: it is a link to {path.readlink()}; name that in its place"
                )
            if path.is_dir():
                self._copy_folder(path, destination, owner, mode)
            elif step["kind"] == "add" and tarfile.is_tarfile(path):
                self._unpack(path, destination)
            elif is_folder:
                self._copy_file(path, f"{destination}/{path.name}", owner, mode)
            else:
                self._copy_file(path, destination, owner, mode)

    def _copy_folder(self, source: Path, destination: str, owner: tuple[int, int], mode: int | None) -> None:
        self.folder(destination, owner)
        for path in sorted(source.iterdir()):
            place = f"{destination}/{path.name}"
            if path.is_symlink():
                self._place(place, owner).symlink_to(path.readlink())
            elif path.is_dir():
                self._copy_folder(path, place, owner, mode)
            else:
                self._copy_file(path, place, owner, mode)

    def _copy_file(self, source: Path, destination: str, owner: tuple[int, int], mode: int | None) -> None:
        place = self._place(destination, owner)
        shutil.copyfile(source, place)
        place.chmod(mode if mode is not None else 0o755 if source.stat().st_mode & 0o100 else 0o644)

    def _unpack(self, archive: Path, destination: str) -> None:
        """Unpack an archive as ADD does: its own modes and owners count."""
        self.folder(destination, (0, 0))
        with tarfile.open(archive) as tar:
            for member in tar:
                if ".." in member.name.split("/"):
                    raise ToolError(f"{archive.name}: {member.name}: the path has a '..' in it")
                name = f"{destination}/{member.name}"
                owner = (member.uid, member.gid)
                if member.isdir():
                    self.folder(name, owner)
                    inside(self.root, name).chmod(member.mode & 0o1777)
                elif member.issym():
                    self._place(name, owner).symlink_to(member.linkname)
                elif member.islnk():
                    self._place(name, owner).hardlink_to(
                        inside(self.root, f"{destination}/{member.linkname}")
                    )
                elif content := tar.extractfile(member):
                    place = self._place(name, owner)
                    with place.open("xb") as file:
                        shutil.copyfileobj(content, file)
                    place.chmod(member.mode & 0o1777)

    def folder(self, path: str, owner: tuple[int, int]) -> None:
        """Make a folder, and those above it, where there is none."""
        place = inside(self.root, path)
        if place.is_dir():
            return
        self.folder(str(Path(path).parent), owner)
        place.mkdir(mode=0o755)
        place.chmod(0o755)
        self._owns(place, owner)

    def _place(self, path: str, owner: tuple[int, int]) -> Path:
        """Where something new goes; what is there is removed, unless it is a folder."""
        folder, name = os.path.split(path.rstrip("/"))
        self.folder(folder, owner)
        place = inside(self.root, folder) / name
        if place.is_dir() and not place.is_symlink():
            raise ToolError(f"{path} is a folder in the image")
        place.unlink(missing_ok=True)
        self._owns(place, owner)
        return place

    def _owns(self, place: Path, owner: tuple[int, int]) -> None:
        self.owners[place.relative_to(self.root).as_posix()] = owner


def _tell(output: IO[bytes], words: deque[str]) -> None:
    for line in output:
        text = line.decode("utf-8", "replace").rstrip()
        words.append(text)
        print(text, file=sys.stderr, flush=True)


def run_commands(config_path: Path, out: Path) -> None:
    """Run the steps of a configuration."""
    config = read_json(config_path)
    try:
        machine = apart.leave(0, 0)
    except apart.RefusedError as error:
        raise ToolError(
            f"this machine does not allow user namespaces, which build steps need: {error}",
            kind="namespaces-refused",
        ) from None
    layers = [Path(path) for path in config["layers"]]
    if config["network"]:
        forbid_abstract_sockets()
    root = Path.cwd() / "root"
    root.mkdir()
    print("unpacking the layers below", file=sys.stderr, flush=True)
    unpack(layers, root)

    def enter() -> None:
        apart.enter(str(root))
        # As in a container, no mode is in the way of whoever owns all.
        apart.confine(machine, 0, 0, keep=(apart.DAC_OVERRIDE,))

    fake_time = f"/{_FAKE_TIME}" if config["variation"]["fake-time"] else None
    build = Build(root, config, fake_time, enter)
    for name in _OF_EVERY_DEBIAN:
        if not (root / name).exists():
            build.folder(f"/{name}", (0, 0))
            (root / name).chmod(implied_directory(name).mode)
    difference = Difference(root, layers)
    put_there = _prepare(root, config)
    for step in config["steps"]:
        build.take(step)
    # ldconfig's notes for its next run.
    left_out = {"var/cache/ldconfig/aux-cache", *put_there}
    lower = Lower(layers)
    entries = difference.entries(lower.table, build.owners, (config["uid"], config["gid"]), left_out)
    if difference.left_out:
        print("left out, since only a running system has it:", file=sys.stderr)
        print(*(f"  /{path}" for path in difference.left_out), sep="\n", file=sys.stderr, flush=True)
    if config["architecture"]:
        entries = difference.with_loader_cache(entries, lower, config["architecture"])
    write_changes(entries, out)


def _prepare(root: Path, config: Config) -> list[str]:
    """Put there what programs expect of a running system; what of it must not be taken for a change."""
    apart.bind_itself(str(root))
    for name, mount in (("proc", apart.mount_processes), ("dev", apart.bind_devices)):
        (root / name).mkdir(exist_ok=True)
        mount(str(root / name))
    files = {}
    if config["network"]:
        files = {f"etc/{name}": f"/etc/{name}" for name in ("resolv.conf", "hosts")}
    if config["variation"]["fake-time"]:
        files[_FAKE_TIME] = config["variation"]["fake-time"]
    for name, source in files.items():
        if Path(source).exists():
            shutil.copyfile(source, root / name)
    return list(files)


if __name__ == "__main__":
    run(run_commands, "CONFIG.json OUT")
