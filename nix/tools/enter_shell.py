#!/usr/bin/env python3
"""Run a program of an image in the image's own root, on this machine and as this user: `main([ROOT, PROGRAM, …])`.

The root is a mount namespace of this process: /usr, /etc, /var and the like are the image's, read-only; all else is the
machine's own, writable as ever: the home, the working directory, /tmp, /dev. The program takes this process's place,
so terminal, signals and exit status are its own. Anyone may do this where the kernel grants user namespaces
(user_namespaces(7)); root needs none. `main(["--check"])` only says whether it works here.

Each start of each program pays for what is imported here: hence no pathlib, json or typing.
"""

from __future__ import annotations

import ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NoReturn

# mount(2), umount(2), unshare(2)
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 32, 4096, 16384, 1 << 19
_MNT_DETACH = 2
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
"""The number of pivot_root(2), for which the C library has no function."""

_KEPT = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME | os.ST_RELATIME
"""What a mount must keep when it is made read-only in a user namespace; the bits are those of mount(2)."""

_HOSTS = {"app", "boot", "dev", "home", "media", "mnt", "nix", "proc", "root", "run", "srv", "sys", "tmp"}
"""Folders of / that are the machine's, though images have them."""

_IMAGES = {"bin", "etc", "lib", "lib32", "lib64", "libo32", "libx32", "opt", "sbin", "usr", "var"}
"""Folders of / that are the image's, and never the machine's."""

_NEW = "/tmp"  # noqa: S108
"""Where the new root is mounted at first: a folder that is everywhere."""

_OLD = "/.machine"
"""Where the machine's own root is until the new one is whole."""

_DRIVER = ("libcuda", "libcudadebugger", "libnvidia-")
"""How the libraries of NVIDIA's driver that programs without a display need begin."""

_EXIT_STATUS = 126
"""As shells have it for a program that is there and can't be run."""

_SYSCTLS = {
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user/max_user_namespaces": ("0", "15000"),
}
"""Settings by which systems forbid user namespaces: the value that does, and one that does not."""

_libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """This machine does not let us make the root."""

    def __init__(self, what: str, hint: str) -> None:
        """State it. hint: what to do about it."""
        super().__init__(f"error: {what}\n  hint: {hint}")
        self.what = what
        self.hint = hint


def main(arguments: list[str]) -> NoReturn:
    """Run the program; a status of 126 says that it could not be."""
    try:
        if arguments == ["--check"]:
            _separate()
            raise SystemExit(0)
        tree, program, *rest = arguments
        # What a locale is to the machine, the image does not know.
        for name in [name for name in os.environ if name.startswith("LC_")]:
            del os.environ[name]
        _enter(tree)
        os.execvp(program, [program, *rest])  # noqa: S606
    except RefusedError as error:
        print(error, file=sys.stderr)
        if arguments == ["--check"]:
            # For whoever asks whether a shell can be entered, a program.
            import json

            print(json.dumps({"what": error.what, "hint": error.hint}))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: the image's root can't be entered: {error.strerror}{where}", file=sys.stderr)
    raise SystemExit(_EXIT_STATUS)


def _separate() -> None:
    """Get a root of our own, with the machine's below it. Raises RefusedError."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid != 0 or _libc.unshare(_CLONE_NEWNS) != 0:
            _checked(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
            # As who we are: what is made outside of the image's root is ours there, too.
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")
        _mount("none", "/", None, _MS_REC | _MS_SLAVE)
        _mount("tmpfs", _NEW, "tmpfs", data="mode=0755")
        os.mkdir(_NEW + _OLD)
        number = _PIVOT_ROOT[os.uname().machine]
        _checked(_libc.syscall(number, os.fsencode(_NEW), os.fsencode(_NEW + _OLD)))
    except OSError as error:
        what = f"this machine does not allow user namespaces, which the shell needs: {error.strerror}"
        raise RefusedError(what, _remedy()) from None


def _remedy(settings: str = "/proc/sys") -> str:
    """Which setting forbids user namespaces, and how it is changed."""
    remedies = []
    for name, (forbids, allows) in _SYSCTLS.items():
        setting = f"{settings}/{name}"
        if os.path.exists(setting) and _read(setting).strip() == forbids:
            remedies.append(f"`sysctl -w {name.replace('/', '.')}={allows}`")
    if remedies:
        return "as root: " + " and ".join(remedies)
    options = "--security-opt seccomp=unconfined --security-opt unmask=ALL"
    return f"in a container, its engine must grant them (podman: `{options}`)"


def _enter(tree: str) -> None:
    """Make an image's tree the root of this process, and go back to where we were."""
    here = os.getcwd()
    shown = _shown([here, *_named_folders()])
    settings = _settings(tree)
    has_gpu = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")
    driver = _driver() if has_gpu else []
    _separate()
    images = set(os.listdir(_OLD + tree))
    for name in os.listdir(_OLD):
        if name not in _IMAGES and (name in _HOSTS or name not in images):
            images.discard(name)
            if os.path.lexists(f"{_OLD}/{name}"):  # a network's folder may be listed, and out of reach
                _put(f"{_OLD}/{name}", f"/{name}")
    for name in images:
        if name != "etc":
            _put_image(f"{_OLD}{tree}/{name}", f"/{name}", shown)
    os.mkdir("/etc")
    for name in os.listdir(f"{_OLD}{tree}/etc"):
        if name not in settings:
            _put_image(f"{_OLD}{tree}/etc/{name}", f"/etc/{name}", shown)
    for name, text in settings.items():
        _write(f"/etc/{name}", text)
    for path, source in shown.items():
        # What the image has there is the image's.
        if not os.path.lexists(path):
            os.makedirs(path)
            _mount(_OLD + source, path, None, _MS_BIND | _MS_REC)
    if driver:
        os.mkdir("/.driver")
        for library in driver:
            _put(_OLD + os.path.realpath(library), f"/.driver/{os.path.basename(library)}")
        os.environ["LD_LIBRARY_PATH"] = ":".join(
            filter(None, ["/.driver", os.environ.get("LD_LIBRARY_PATH")])
        )
    _checked(_libc.umount2(os.fsencode(_OLD), _MNT_DETACH), _OLD)
    os.rmdir(_OLD)
    # Nor does anything new appear beside these.
    _read_only("/")
    os.chdir(here)


def _named_folders() -> Iterator[str]:
    """Folders that must be seen inside, wherever they lie."""
    for name in ("HOME", "TMPDIR", "TUNGSTEN_SHELL_PATHS"):
        yield from filter(None, os.environ.get(name, "").split(":"))


def _shown(folders: Iterable[str]) -> dict[str, str]:
    """Those of the folders that lie where the image's own are, shortest first, and where each really is.

    With and without the links on the way: either may be asked for.
    """
    paths = {path for one in folders for path in (os.path.normpath(one), os.path.realpath(one))}
    return {
        path: os.path.realpath(path)
        for path in sorted(paths)
        if path.startswith(tuple(f"/{top}/" for top in _IMAGES)) and os.path.isdir(path)
    }


def _settings(tree: str) -> dict[str, str]:
    """Files of /etc that say what the machine knows: its network, and who we are."""
    found = {}
    for name in ("resolv.conf", "hosts"):
        if os.path.exists(f"/etc/{name}"):
            found[name] = _read(f"/etc/{name}")
    uid, gid = os.geteuid(), os.getegid()
    user = os.environ.get("USER") or str(uid)
    home = os.environ.get("HOME", "/")
    lines = {"passwd": f"{user}:x:{uid}:{gid}::{home}:/bin/sh", "group": f"{user}:x:{gid}:"}
    for name, line in lines.items():
        known = _read(f"{tree}/etc/{name}")
        if line.split(":")[2] not in (one.split(":")[2] for one in known.splitlines() if one.count(":") > 2):
            found[name] = known.rstrip("\n") + f"\n{line}\n"
    return found


def _put_image(source: str, path: str, shown: Iterable[str]) -> None:
    """Put a part of the image's tree to where it belongs, with room for what is shown within."""
    below = [one for one in shown if one.startswith(f"{path}/")]
    if not below or os.path.islink(source) or not os.path.isdir(source):
        _put(source, path, read_only=True)
        return
    os.mkdir(path)
    for name in os.listdir(source):
        _put_image(f"{source}/{name}", f"{path}/{name}", below)


def _put(source: str, target: str, *, read_only: bool = False) -> None:
    """Put a folder, a file or a link to a path that is free."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
    _mount(source, target, None, _MS_BIND | _MS_REC)
    if read_only:
        _read_only(target)


def _read_only(target: str) -> None:
    kept = os.statvfs(target).f_flag & _KEPT
    _mount("none", target, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)


def _driver() -> list[str]:
    """The libraries of NVIDIA's driver that this machine's loader knows, as container runtimes mount them."""
    import subprocess

    try:
        run = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False)
    except OSError:
        return []
    machine = {"x86_64": "x86-64", "aarch64": "AArch64"}[os.uname().machine]
    # `	libcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1`
    return [
        line.rpartition(" => ")[2]
        for line in run.stdout.splitlines()
        if line.strip().startswith(_DRIVER) and machine in line
    ]


def _mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    encoded = [None if one is None else os.fsencode(one) for one in (source, target, kind)]
    options = None if data is None else data.encode()
    _checked(_libc.mount(*encoded, ctypes.c_ulong(flags), options), target)


def _checked(result: int, path: str | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
