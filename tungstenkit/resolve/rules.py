"""The Debian packages that are in images by a rule of ours, and by nobody's wish; `needed-by` has the rule's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.lock.parts import BaseImage

BASE = (
    "base-files",
    "ca-certificates",
    # `os.system` and `subprocess.run(…, shell=True)` in a model need `/bin/sh`.
    "dash",
    "libc-bin",
    "libc6",
    # Wheels may take these from the system (PEP 600, and what manylinux images hold).
    "libgomp1",
    "libstdc++6",
    "media-types",
    "netbase",
    "tini",
    "tzdata",
    "zlib1g",
)
"""What every image's root holds, beside Python."""

OLD_ZONES = "tzdata-legacy"
"""Zones by their names of old, US/Pacific, which were in `tzdata` until bookworm: each image has the same ones."""


def base_packages(*, has_old_zones_apart: bool) -> tuple[str, ...]:
    """What the root of an image holds, beside Python. has_old_zones_apart: as Debian's release says."""
    return (*BASE, OLD_ZONES) if has_old_zones_apart else BASE


ESSENTIAL = (
    "bash",
    "coreutils",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "sed",
    "tar",
)
"""What Debian's packages use without naming it (Debian policy, 3.8), but for what only installs packages."""


def tool_programs(images: Iterable[BaseImage | None]) -> list[str]:
    """The Debian packages beside Python that the tools of builds need, to read base images."""
    return ["zstd"] if any(layer.is_zstd for image in images if image for layer in image.layers) else []
