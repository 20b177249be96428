#!/usr/bin/env python3
"""What a base image offers to what is put on it: `base_facts.py CONFIG.json OUT.json`.

CONFIG's `layers` are the folders of its imported layers, the lowest first; `path` and `library-path` are the
variables that its configuration sets. Nothing of the image is run. Locking asks this; no build does.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from base_root import MODULES, BaseRoot
from ldcache import configured_folders
from program import read_json, run, write_json

_BUNDLES = (
    "etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "etc/pki/tls/certs/ca-bundle.crt",  # Fedora and its like
    "etc/ssl/ca-bundle.pem",  # SUSE
)
_PROGRAMS = ("/usr/local/bin", "/usr/bin", "/opt/conda/bin")
"""Where Python is looked for, after the folders of PATH."""
_LIBRARIES = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib")
_C_LIBRARY = re.compile(r"(usr/)?lib(64)?(/[^/]+-linux-gnu)?/libc[^/]*")
"""Where the C library of the system is; SDKs have others elsewhere."""
_OLDEST, _NEWEST = 9, 14  # of Python 3: what the server runs on
_STDLIB = ("os.py", "asyncio/base_events.py", "http/client.py", "multiprocessing/context.py")
"""Files of the standard library that a cut-down one lacks."""


def base_facts(config_path: Path, out: Path) -> None:
    """Write the facts of the image that a configuration names."""
    config = read_json(config_path)
    base = BaseRoot(map(Path, config["layers"]))
    write_json(
        out,
        {
            "libc": _libc(base),
            "is-ours": base.root.resolve("opt/tungsten/spec.json") is not None,
            "is-musl": any(
                re.fullmatch(r"(usr/)?lib/ld-musl-.*\.so\.1", path) for path in base.table.entries
            ),
            "certificates": next((f"/{path}" for path in _BUNDLES if base.root.resolve(path)), None),
            "libraries": _libraries(base, config["library-path"]),
            "pythons": _pythons(base, config["path"]),
            "system": {
                "os-release": _readable(base.text("etc/os-release") or base.text("usr/lib/os-release")),
                "status": _readable(base.text("var/lib/dpkg/status")),
                "has-merged-usr": base.root.kind("lib") == "link",
            },
        },
    )


def _readable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _libc(base: BaseRoot) -> str | None:
    """The version of the GNU C library."""
    for path, facts in base.found.items():
        match = re.search(r"version (\d+\.\d+)", str(facts.get("release", "")))
        if match and _C_LIBRARY.fullmatch(path):
            return match.group(1)
    return None


def _libraries(base: BaseRoot, library_path: str) -> list[str]:
    """The names of the shared libraries that the loader finds by name."""
    texts = {path: str(facts["text"]) for path, facts in base.found.items() if "text" in facts}
    folders = [*configured_folders(base.root, texts, "etc/ld.so.conf"), *library_path.split(":"), *_LIBRARIES]
    for folder in _LIBRARIES:
        real = base.root.resolve(folder)
        # Debian's multiarch folders; the loader knows that of its own processor.
        folders += [f"{real}/{name}" for name in base.root.names(real or "\0") if name.endswith("-linux-gnu")]
    names: set[str] = set()
    for folder in folders:
        real = base.root.resolve(folder.strip()) if folder.strip("/ ") else None
        names.update(name for name in base.root.names(real or "\0") if ".so" in name)
    return sorted(names)


def _pythons(base: BaseRoot, path: str) -> list[dict[str, object]]:
    """Every Python that can be started, in the order that it is looked for; what is wrong with it in `problem`."""
    found: dict[str, dict[str, object]] = {}
    for folder in [*path.split(":"), *_PROGRAMS]:
        real_folder = base.root.resolve(folder) if folder.startswith("/") else None
        for name in base.root.names(real_folder or "\0"):
            match = re.fullmatch(r"python(3\.(\d+))", name)
            real = base.root.resolve(f"{folder}/{name}") if match else None
            if match is None or real is None or (f"{real_folder}/{name}" in found):
                continue
            found[f"{real_folder}/{name}"] = _python(
                base, folder, name, real, match.group(1), int(match.group(2))
            )
    return list(found.values())


def _python(base: BaseRoot, folder: str, name: str, real: str, version: str, minor: int) -> dict[str, object]:
    prefix = posixpath.dirname(posixpath.dirname(real))
    stdlib = next(
        (
            place
            for library in ("lib", "lib64")
            if (place := base.root.resolve(f"{prefix}/{library}/python{version}"))
            and base.root.resolve(f"{place}/os.py")
        ),
        None,
    )
    environment = posixpath.dirname(folder.rstrip("/"))
    site = f"lib/python{version}/site-packages"
    if base.root.resolve(f"{environment}/pyvenv.cfg"):  # a virtual environment (PEP 405)
        prefix = environment.lstrip("/")
    elif stdlib and base.found.get(f"{stdlib}/site.py", {}).get("is-debians"):
        # Debian's Python leaves /usr to dpkg (Debian Python policy, "Module path").
        prefix = f"{prefix}/local" if prefix == "usr" else prefix
        site = f"lib/python{version}/dist-packages"
    return {
        "path": posixpath.join(folder, name),
        "version": version,
        "home": f"/{posixpath.dirname(real)}",
        "prefix": f"/{prefix}",
        "site-packages": f"/{prefix}/{site}",
        "distributions": {
            name: version for name, (version, _) in base.distributions(f"{prefix}/{site}").items()
        },
        "problem": _problem(base, real, stdlib, version, minor),
    }


def _problem(base: BaseRoot, real: str, stdlib: str | None, version: str, minor: int) -> str:
    if not _OLDEST <= minor <= _NEWEST:
        return f"Python {version} is not one of 3.{_OLDEST} to 3.{_NEWEST}"
    if stdlib is None or any(base.root.resolve(f"{stdlib}/{name}") is None for name in _STDLIB):
        return "it has no whole standard library"
    if "modules" not in base.found.get(real, {}):
        return "it is no program"
    have = {
        name
        for path, facts in base.found.items()
        if path == real or f"/libpython{version}" in path
        for name in facts.get("modules", ())
    }
    have |= {name.partition(".")[0] for name in base.root.names(f"{stdlib}/lib-dynload")}
    missing = sorted(set(MODULES) - have)
    return f"it lacks {', '.join(missing)}" if missing else ""


if __name__ == "__main__":
    run(base_facts, "CONFIG.json OUT")
