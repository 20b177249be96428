"""A maintainer script whose text can't be read is run apart from everything, and what it asks of
update-alternatives and dpkg-divert is written down.

It finds its own package's files alone, in a root of its own, none of which can be executed: each program is a
stand-in that succeeds. The shell and its tools are busybox's, of the machine that builds, so nothing of the
image is executed, whatever its platform. What a stand-in can't know, such as what a program would print, is an
error that names the package, never a guess.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import apart
from contents import read_all
from program import ToolError
from rootfs import ALIASES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootfs import Entry

# Far more than any script takes that does nothing but ask.
_SECONDS = 120
_OURS = ".tungsten"
_SHELL = re.compile(r"#! */(?:usr/)?bin/(?:sh|dash|bash)(?: +(-[a-z]+))? *\n")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
# bash's own, which busybox's shell lacks: a stand-in would do them wrong without a word.
_OF_BASH = {
    "builtin",
    "caller",
    "compgen",
    "declare",
    "enable",
    "mapfile",
    "popd",
    "pushd",
    "readarray",
    "shopt",
    "typeset",
}

# Over busybox's tools. In a fresh root there is no version from before (Debian policy 6.5), which all versions are
# later than; that of -nl is later than all (dpkg(1)).
_PRELUDE = r"""
tungsten_unknown() { echo "$*" >> /.tungsten/unknown; exit 1; }
chown() { :; }
chgrp() { :; }
arch() { tungsten_unknown arch; }
date() { tungsten_unknown date; }
hostname() { tungsten_unknown hostname; }
nproc() { tungsten_unknown nproc; }
uname() { tungsten_unknown uname; }
dpkg() {
  case "$1 ${2:+version} $3 ${4:+version}" in
    "--compare-versions  "[lg][te]-nl" version") [ "${3%?-nl}" = g ] ;;
    "--compare-versions  "[lg][te]" version") [ "${3%?}" = l ] ;;
    *) case "$*" in
      --print-architecture) [ "$DPKG_MAINTSCRIPT_ARCH" != all ] || tungsten_unknown dpkg "$@"
        echo "$DPKG_MAINTSCRIPT_ARCH" ;;
      *) tungsten_unknown dpkg "$@" ;;
    esac ;;
  esac
}
"""
_STAND_IN = r"""#!/.tungsten/busybox sh
case "$0" in
  /var/lib/dpkg/info/*) echo "the text of a program" >> /.tungsten/unknown; exit 1 ;;
  */dpkg-query | */dpkg-architecture) echo "${0##*/} $*" >> /.tungsten/unknown; exit 1 ;;
esac
[ ! -p /proc/self/fd/1 ] || { echo "${0##*/} $*" >> /.tungsten/unknown; exit 1; }
"""
_ALTERNATIVES = r"""#!/.tungsten/busybox sh
case " $* " in
  *" --install "*) printf '%s\0' "$#" alternatives "$@" >> /.tungsten/calls ;;
  *" --list "* | *" --query "* | *" --display "* | *" --get-selections "*)
    [ ! -e /.tungsten/calls ] || { echo "update-alternatives $*" >> /.tungsten/unknown; exit 1; }
    exit 2 ;;
esac
"""
_DIVERT = r"""#!/.tungsten/busybox sh
case " $* " in
  *" --remove "* | *" --list "* | *" --listpackage "*) ;;
  *" --truename "*) echo "dpkg-divert $*" >> /.tungsten/unknown; exit 1 ;;
  *) printf '%s\0' "$#" diversions "$@" >> /.tungsten/calls ;;
esac
"""


class ScriptRun:
    """Where the scripts of one package are run: its name, architecture and files, and the busybox that runs them."""

    def __init__(self, package: str, architecture: str, entries: Iterable[Entry], busybox: str) -> None:
        """Nothing is done yet; the contents of `entries` must be readable as long as scripts are run."""
        self._package = package
        self._architecture = architecture
        self._entries = list(entries)
        self._busybox = busybox

    def calls(self, script: str, kind: str) -> tuple[list[list[str]], list[list[str]]]:
        """The arguments with which a fresh installation's preinst or postinst calls update-alternatives and
        dpkg-divert.

        `ToolError` where it fails, or asks for what nobody can know here.
        """
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"
            # A preinst runs before the package is unpacked (Debian policy 6.6).
            self._make(root, script, self._entries if kind == "postinst" else [])
            self._run(root, script, kind)
            return _recorded(root / _OURS / "calls")

    def _make(self, root: Path, script: str, entries: list[Entry]) -> None:
        ours = root / _OURS / "bin"
        for path in (
            ours,
            *(
                root / name
                for name in ("dev", "proc", "root", "tmp", "usr/bin", "usr/sbin", "var/lib/dpkg/info")
            ),
        ):
            path.mkdir(parents=True, exist_ok=True)
        (root / "dev/null").touch()
        shutil.copy(self._busybox, root / _OURS / "busybox")
        # Links last, so that nothing is written through one.
        for entry in sorted(entries, key=lambda entry: entry.kind == "link"):
            path = root / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind == "dir":
                path.mkdir(exist_ok=True)
            elif entry.kind == "link":
                path.symlink_to(entry.target)
            elif entry.mode & 0o111:
                _program(path, _STAND_IN)
            else:
                assert entry.content is not None
                path.write_bytes(read_all(entry.content))
        for alias, real in ALIASES.items():
            if (root / real).is_dir() and not alias.startswith("var/"):
                (root / alias).symlink_to(real)
        for name in set(_WORD.findall(script)) - _OF_BASH:
            _program(ours / name, _STAND_IN)
        for name, text in (("update-alternatives", _ALTERNATIVES), ("dpkg-divert", _DIVERT)):
            for folder in (ours, root / "usr/bin", root / "usr/sbin"):
                _program(folder / name, text)

    def _run(self, root: Path, script: str, kind: str) -> None:
        shell = _SHELL.match(script)
        if shell is None:
            raise ToolError(f"it is no script of the shell: {script.partition(chr(10))[0]}")
        place = f"var/lib/dpkg/info/{self._package}.{kind}"
        (root / place).write_text(_PRELUDE + script, "utf-8", "surrogateescape")
        inside = [
            *(f"/{_OURS}/busybox", "env", "-i", f"PATH=/{_OURS}/bin", "HOME=/root", "LC_ALL=C"),
            f"DPKG_MAINTSCRIPT_ARCH={self._architecture}",
            f"DPKG_MAINTSCRIPT_NAME={kind}",
            f"DPKG_MAINTSCRIPT_PACKAGE={self._package}",
            *(f"/{_OURS}/busybox", "sh", *filter(None, [shell[1]]), f"/{place}"),
            "configure" if kind == "postinst" else "install",
            *([""] if kind == "postinst" else []),
        ]
        own = [self._busybox, "unshare", "-r", "-m", self._busybox, "true"]
        if subprocess.run(own, check=False, capture_output=True).returncode:
            raise ToolError("this machine does not allow user namespaces, in which it would be run")
        messages = root / _OURS / "messages"
        status = _ended(root, inside, messages)
        if status == -signal.SIGALRM:
            raise ToolError(f"it does not end within {_SECONDS} s")
        unknown = root / _OURS / "unknown"
        if unknown.exists():
            asked = unknown.read_text("utf-8", "replace").partition("\n")[0]
            raise ToolError(f"it asks for what is not known before there is an image: {asked}")
        if status:
            lines = messages.read_text("utf-8", "replace").strip().splitlines()
            raise ToolError(f"it fails without the rest of a system: {lines[-1] if lines else status}")


def _ended(root: Path, command: list[str], messages: Path) -> int:
    """The exit status of a command that ran in a root, apart; -SIGALRM where it took too long."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        # Not pipes, by which stand-ins know that somebody reads them.
        os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # Of this process, which waits for those that `leave` makes, and takes them with it.
        signal.alarm(_SECONDS)
        _enter(root)
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(126)


def _enter(root: Path) -> None:
    machine = apart.leave(0, 0)
    apart.bind_itself(str(root))
    apart.bind_device("/dev/null", str(root / "dev/null"))
    apart.mount_processes(str(root / "proc"))
    apart.enter(str(root))
    apart.as_child()
    apart.confine(machine, 0, 0)


def _program(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _recorded(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    found: dict[str, list[list[str]]] = {"alternatives": [], "diversions": []}
    words = path.read_text("utf-8", "surrogateescape").split("\0")[:-1] if path.exists() else []
    while words:
        count, kind, *words = words
        found[kind].append(words[: int(count)])
        words = words[int(count) :]
    return found["alternatives"], found["diversions"]
