"""What the kernel, or a container around us, allows of what builds need."""

from __future__ import annotations

import errno
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import lacks
from tungstenkit.doctor.finding import fine, lacking, unsure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tungstenkit.doctor.finding import Finding
    from tungstenkit.lacks import Linux

ATTEMPT = Path(__file__).with_name("attempt.py")
_SECONDS = 20
_MODULES = ("bz2", "ctypes", "lzma", "ssl", "zlib")
"""Of the standard library: a Python that was built where their headers were missing lacks them."""


def kernel(linux: Linux) -> Iterator[Finding]:
    """Python, and user namespaces."""
    yield python()
    yield namespaces(linux, attempt())


def python() -> Finding:
    """Whether this Python is whole."""
    missing = []
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    where = f"{sys.version.partition(' ')[0]}, {sys.executable}"
    if not missing:
        return fine(lacks.PYTHON, where)
    remedy = lacks.Remedy(
        says="use the distribution's Python, or build this one anew with their headers there"
    )
    return lacking(lacks.PYTHON, f"{where}, which has no {', '.join(missing)}", [remedy])


def attempt() -> Mapping[str, Any]:
    """What `attempt.py` says: the step that failed, or none."""
    command = [sys.executable, "-I", "-S", "-B", str(ATTEMPT)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        said: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as problem:
        return {"failed": None, "said": str(problem)}
    return said


def namespaces(linux: Linux, tried: Mapping[str, Any], proc: Path = Path("/proc")) -> Finding:
    """Why they can't be had, and what helps. tried: as `attempt` has it."""
    failed = tried["failed"]
    if failed is None:
        return unsure(lacks.NAMESPACES, f"they could not be tried: {tried['said']}")
    if not failed:
        return fine(lacks.NAMESPACES, "made, with processes, mounts, a /proc and a network of their own")
    number = tried["errno"]
    if failed == "root's":
        why = f"{tried['said']}: root may not mount here, for want of CAP_SYS_ADMIN"
        elsewhere = lacks.Remedy(says="run tungsten as another user, or as a root that has it")
        remedies = [lacks.granting_namespaces(linux) if linux.container else elsewhere]
    elif failed in ("proc", "name"):
        why = (
            f"a /proc of one's own can't be mounted: this one is masked, in {_masks(proc)} places"
            if failed == "proc" and _masks(proc)
            else f"they can be made, and little can be done in them: {_refused(failed, proc)}"
        )
        remedies = [lacks.granting_namespaces(linux)]
    elif number in (errno.EINVAL, errno.ENOSYS) and failed == "user":
        why = "this kernel has none (CONFIG_USER_NS)"
        remedies = lacks.allowing_namespaces(linux, proc / "sys")
    else:
        settings = lacks.forbidding_settings(proc / "sys")
        values = ", ".join(f"{name}={_text(proc / 'sys' / Path(*name.split('.')))}" for name in settings)
        why = f"{tried['said']}: {values or _refused(failed, proc)}"
        remedies = lacks.allowing_namespaces(linux, proc / "sys")
    if not remedies:
        remedies = [lacks.Remedy(says=lacks.namespaces_hint(linux, proc / "sys"))]
    return lacking(lacks.NAMESPACES, why, remedies)


def _refused(failed: str, proc: Path) -> str:
    what = {
        "user": "a user namespace is",
        "ids": "its ids are",
        "mounts": "other namespaces in it are",
        "root": "a root of one's own is",
        "proc": "a /proc of one's own is",
        "name": "a host name of one's own is",
        "nested": "further ones below it are",
    }[failed]
    is_filtered = re.search(r"(?m)^Seccomp:\s*2$", _text(proc / "self/status")) is not None
    return f"{what} refused{', by a seccomp filter perhaps' if is_filtered else ''}"


def _masks(proc: Path) -> int:
    """How many places below /proc something lies over: the kernel shows no other /proc then (mount_too_revealing)."""
    return len(re.findall(r"(?m)^\d+ \d+ \S+ \S+ /proc/", _text(proc / "self/mountinfo")))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
