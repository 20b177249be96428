"""What `make builder` does: builds tungsten's own image, loads it where there is an engine, and says its digest.

    python builder/build.py [PLATFORM]

The image is also the file that the link `result-builder` leads to. Where a file that its lock names has left every
mirror, it is locked again, and the digest will differ.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tungstenkit.cli.terminal import TERMINAL
from tungstenkit.nix_build.engine import find_engine, load_image
from tungstenkit.nix_build.image import read_layout
from tungstenkit.nix_build.process import run_build
from tungstenkit.platforms import this_system
from tungstenkit.sdk.errors import TungstenError

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
TUNGSTEN = [sys.executable, "-m", "tungstenkit"]
GONE = 3


def tungsten(*arguments: str) -> int:
    """Run a command of ours; its exit status."""
    return subprocess.run([*TUNGSTEN, *arguments, str(FOLDER)], stdout=sys.stderr, check=False).returncode


def fetch(system: str) -> None:
    """Bring what the lock names into the store; lock again first where a file is gone."""
    status = tungsten("fetch", "--platform", system)
    if status == GONE:
        print(
            "A file that the lock names has left every mirror: locking again. The digest will differ.",
            flush=True,
        )
        status = tungsten("lock", "--upgrade") or tungsten("fetch", "--platform", system)
    if status != 0:
        sys.exit(status)


def build(system: str) -> Path:
    """Build the image for a platform: its layout. The archive is where `result-builder` leads to."""
    link = ROOT / "result-builder"
    image = f"packages.{this_system()}.tungsten-image-{system}"
    arguments = [
        *("--impure", "--option", "restrict-eval", "true", "-I", f"checkout={ROOT}"),
        *(
            "--expr",
            "(import ./builder/image.nix { nix = import ./nix; checkout = ./.; })",
            image,
            f"{image}-dir",
        ),
        *("--out-link", str(link)),
    ]
    with TERMINAL.building() as view:
        run_build(arguments, view, ROOT)
    # Nix does not say which link leads where; both hold what they lead to.
    other = link.with_name(f"{link.name}-1")
    if link.is_dir():
        layout, archive = link.resolve(), other.resolve()
        for place, path in (link, archive), (other, layout):
            place.unlink()
            place.symlink_to(path)
    return other.resolve()


def main() -> None:
    """Fetch, build, load, report."""
    system = sys.argv[1] if sys.argv[1:] else this_system()
    try:
        fetch(system)
        image = read_layout(build(system))
        engine = find_engine() if system == this_system() else None
        name = "localhost/tungsten:latest" if engine == "podman" else "tungsten:latest"
        if engine:
            load_image(image, engine, name)
    except TungstenError as problem:
        sys.exit(f"{problem}")
    print(f"image   {image.size / 1e6:.1f} MB, packed, for {system}")
    print(f"digest  {image.digest}")
    print(f"image   {f'{name} here; elsewhere ' if engine else ''}`docker load -i result-builder`")


if __name__ == "__main__":
    main()
