"""A lock file of another tool in a solve: what to prefer for its sake, and what of the answer is not as it has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from tungstenkit.data import OWN_WHEELS
from tungstenkit.lock.packages import Wheel
from tungstenkit.lock.parts import OF_VERSIONS, Choice
from tungstenkit.sdk.errors import ResolveError
from tungstenkit.spec.requirements import project_of, wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tungstenkit.lock.packages import Source
    from tungstenkit.platforms import Target
    from tungstenkit.spec.pins import LockFile, Pin
    from tungstenkit.spec.requirements import Wishes

LOCK_FILE = "lock-file"
"""Of the choices that are other than the lock file's."""


@dataclass(frozen=True)
class Pinned:
    """A lock file for a model's solves."""

    file: LockFile
    is_new: bool
    """Whether the earlier lock was made without it, or when it was another. Else that lock is what it came to."""

    def preferred(self, target: Target, earlier: Sequence[Wheel]) -> list[Wheel]:
        """The versions to prefer: the file's and an earlier lock's, one of each project."""
        # uv takes the newest of several.
        kept = {wheel.project: wheel for wheel in earlier}
        for pin in self.file.pins_where(target.markers).values():
            if self.is_new or pin.project not in kept:
                kept[pin.project] = _stand_in(pin)
        return list(kept.values())

    def check(self, target: Target, entries: Iterable[Wheel | Source], where: str) -> None:
        """ResolveError where a file of the version that the lock file has is none of those that it lists."""
        wrong = [
            f"{entry.project} {entry.version}: {entry.file} is none of the files whose hashes {self.file.name} has"
            for entry, pin in self._both(target, entries)
            if not is_direct(entry)
            and Version(entry.version) == Version(pin.version)
            and pin.hashes
            and entry.sha256 not in pin.hashes
        ]
        if wrong:
            raise ResolveError(
                "\n".join(wrong),
                where=where,
                hint=f"lock {self.file.name} again with the tool that wrote it: the release may have got files since; "
                "else somebody has changed them",
            )

    def differences(
        self, target: Target, entries: Iterable[Wheel | Source], wishes: Wishes
    ) -> Iterator[Choice]:
        """A choice for each project that is not as the file has it, with the reason as far as it is known."""
        for entry, pin in self._both(target, entries):
            if pin.line is not None and not is_direct(entry):
                yield Choice(
                    kind=LOCK_FILE,
                    subject=f"{entry.project} is not from where {self.file.name} takes it",
                    chosen=f"{entry.version} of the index",
                    reason=f"only python_packages may name a place: '{pin.line}'",
                )
            elif Version(entry.version) != Version(pin.version):
                yield Choice(
                    kind=LOCK_FILE,
                    subject=f"{entry.project} is not as {self.file.name} has it",
                    chosen=entry.version,
                    reason=f"not {pin.version}: {_why_not(pin, wishes, target)}",
                )

    def unexplained(self, target: Target, choices: Iterable[Choice]) -> list[Choice]:
        """The choices but for those of versions that the file has: it is why they are not newer."""
        pins = self.file.pins_where(target.markers)
        return [
            choice
            for choice in choices
            if choice.kind not in OF_VERSIONS
            or (pin := pins.get(project_of(choice.subject))) is None
            or Version(choice.chosen) != Version(pin.version)
        ]

    def _both(
        self, target: Target, entries: Iterable[Wheel | Source]
    ) -> Iterator[tuple[Wheel | Source, Pin]]:
        pins = self.file.pins_where(target.markers)
        return ((entry, pins[entry.project]) for entry in entries if entry.project in pins)


def _stand_in(pin: Pin) -> Wheel:
    # A solve takes name and version of it, and nothing else.
    file = f"{pin.project.replace('-', '_')}-{pin.version}-py3-none-any.whl"
    return Wheel(project=pin.project, version=pin.version, file=file, size=0, sha256="0" * 64)


def is_direct(entry: Wheel | Source) -> bool:
    """Whether the model itself says where it is."""
    git = None if isinstance(entry, Wheel) else entry.git
    return bool(entry.url or entry.path or git)


def _why_not(pin: Pin, wishes: Wishes, target: Target) -> str:
    own = [(f"the SDK needs {text}", wanted(text)) for text in OWN_WHEELS["sdk"]["requires"]]
    asked = [(f"python_packages ask for {one.text}", one) for one in wishes.requirements]
    limits = [(f"python_packages have -c {one.text}", one) for one in wishes.constraints]
    for said, one in (*asked, *limits, *own):
        counts = one.marker is None or one.marker.evaluate(target.markers)
        if one.name == pin.project and counts and not one.specifier.contains(pin.version, prereleases=True):
            return said
    return f"no file of it fits the other packages on Python {target.python} and this platform"
