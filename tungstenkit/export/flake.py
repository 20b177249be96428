"""An export: a folder that is a complete flake, from which Nix alone builds the image.

It holds a constant `flake.nix`, our `nix/`, the SDK and the server, the spec, the lock, the model's files, and
`sources.json`, which says where bytes come from on this machine; all but this are the same bytes wherever and
whenever the export is made. The model's big files are only named, in `files.json`.
A new export appears whole or not at all; in an older one each part is replaced
whole, and what else lies there stays.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tungstenkit.data import NIX, SDK, SERVER, SEVEN_ZIP, sdk_files
from tungstenkit.document import to_json
from tungstenkit.sdk.errors import ExportError
from tungstenkit.spec.files import is_export

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tungstenkit.fetch.big_files import BigFile
    from tungstenkit.fetch.mirrors import Mirrors
    from tungstenkit.lock.document import Lock
    from tungstenkit.spec.document import ModelSpec
    from tungstenkit.spec.files import ModelFile


@dataclass(frozen=True)
class Contents:
    """The files of this machine that an export has."""

    directory: Path
    """The model's folder."""
    files: Sequence[ModelFile]
    """What of it ships."""
    big: Sequence[BigFile] = ()
    """Those of `files` that are only named, because the store has them by themselves."""
    own: Iterable[Path] = ()
    """What the lock names and no mirror has, under their store names."""


def export(
    spec: ModelSpec, lock: Lock, contents: Contents, sources: Mapping[str, Sequence[str]], out: Path
) -> None:
    """Write an export. sources: URLs by sha256, without credentials.

    Raises ExportError where `out` is something else than an export, or can't be written.
    """
    out = out.resolve()
    if out.exists() and not is_export(out) and any(out.iterdir() if out.is_dir() else [out]):
        raise ExportError(
            "there is something here that is not an export, and it is not overwritten",
            where=str(out),
            hint="name another folder with -o"
            + ("" if contents.directory.is_relative_to(out) else ", or remove this one"),
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            fresh = Path(folder) / "export"
            named = {file.path for file in contents.big}
            files = [file for file in contents.files if file.path not in named]
            _write(spec, lock, contents.directory, files, sources, fresh)
            _text(fresh / "files.json", to_json([one.to_json() for one in contents.big]))
            for file in contents.own:
                _copy(file, fresh / "files" / file.name)
            if not out.exists():
                fresh.rename(out)
                return
            # An older export: what else lies there, such as `.git` or Nix's `result`, is the user's.
            old = Path(folder) / "old"
            old.mkdir()
            for entry in sorted(fresh.iterdir()):
                if (out / entry.name).exists():
                    (out / entry.name).rename(old / entry.name)
                entry.rename(out / entry.name)
    except OSError as problem:
        raise ExportError(
            f"the export can't be written: {problem.strerror}",
            # Of a copy both are named, and the second is what is written.
            where=str(problem.filename2 or problem.filename or out),
            hint="make room or name another folder with -o; nothing was left behind",
        ) from None


def _write(
    spec: ModelSpec,
    lock: Lock,
    directory: Path,
    files: Sequence[ModelFile],
    sources: Mapping[str, Sequence[str]],
    out: Path,
) -> None:
    from tungstenkit.export import nixpkgs

    model = out / "model"
    model.mkdir(parents=True)
    for file in files:
        target = model / file.path
        if file.target is None:
            _copy(directory / file.path, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.target)
    for source in sorted(NIX.rglob("*")):
        if source.suffix in {".nix", ".py", ".sh", ".json"}:
            _copy(source, out / "nix" / source.relative_to(NIX))
    for name in sdk_files():
        _copy(SDK / name, out / "tungstenkit" / name)
    for source in sorted(SERVER.rglob("*")):
        # Python's own leavings are no part of the package; all else is, the demo page too.
        if source.is_file() and source.suffix != ".pyc":
            _copy(source, out / "server" / "tungsten_server" / source.relative_to(SERVER))
    if lock.package_set == "nixpkgs":
        for name, text in nixpkgs.files(lock).items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            _text(out / name, text)
    else:
        _copy(NIX / "flake" / "exported-flake.nix", out / "flake.nix")
    _text(out / "spec.json", spec.to_json())
    _text(out / "tungsten.lock", lock.to_json())
    _text(out / "sources.json", to_json(sources))


def _copy(source: Path, target: Path) -> None:
    """Copy a file; of its mode only the executable bit is kept, as in the Nix store."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def bootstrap_urls(mirrors: Mirrors) -> dict[str, list[str]]:
    """Where the bootstrap's 7-Zip is, for a build without `tungsten fetch`; empty where no npm registry is known."""
    if mirrors.npm is None:
        return {}
    return {SEVEN_ZIP["sha256"]: [SEVEN_ZIP["file"].replace("mirror://npm", mirrors.npm)]}


def public(urls: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The URLs that may be written down: those without a user's name or password, and of no place on this machine.

    A file that is left without any is left out.
    """
    open_urls = {
        sha256: [
            url for url in found if url.startswith(("http:", "https:")) and "@" not in urlsplit(url).netloc
        ]
        for sha256, found in urls.items()
    }
    return {sha256: found for sha256, found in open_urls.items() if found}


def git_notice(out: Path) -> str | None:
    """What a user must know where an export lies in a git work tree: Nix sees only what git knows there."""
    command = ["git", "-C", str(out), "rev-parse", "--show-toplevel"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    if run.returncode != 0:
        return None
    return (
        f"{out} is inside the git work tree {run.stdout.strip()}: Nix sees only the files there that git knows. "
        f"Use `nix build path:{out}#model-image`, or `git add -N {out}` first."
    )
