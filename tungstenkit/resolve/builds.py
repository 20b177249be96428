"""What wheels of sources are built with: Python packages, Debian packages, and what an earlier lock has built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tungstenkit.lock.packages import Source, SourceBuild
from tungstenkit.resolve.build_rules import BuildRule, build_debs, build_requires
from tungstenkit.resolve.offer import Offer
from tungstenkit.resolve.relocked import Relocked
from tungstenkit.resolve.unlisted import PinnedFiles, Unlisted
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.sdk.errors import ResolveError
from tungstenkit.settings import bad_requirements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tungstenkit.fetch.archives import Facts
    from tungstenkit.lock.packages import Deb, Wheel
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.sources import Obtained, Sources


@dataclass
class Builds:
    """How wheels are built of one platform's sources; each is solved for once."""

    sources: Sources
    target: Target
    debs: Callable[[Mapping[str, Sequence[str]], str, Iterable[Deb]], tuple[Deb, ...]]
    """Solves Debian packages for groups of names."""
    previous: Sequence[Source] = ()
    """Those of an earlier lock."""
    unbuildable: str | None = None
    """Why no source of the index can be built; None where they can."""
    unlisted: Unlisted = field(default_factory=Unlisted)
    record: Relocked = field(default_factory=Relocked)
    """Gets what became of the earlier lock's pins."""
    _wheels: dict[str, tuple[Wheel, ...]] = field(default_factory=dict)

    def wheels(self, obtained: Obtained, facts: Facts) -> tuple[Wheel, ...]:
        """What a source is built with, of Python's; once for each."""
        if obtained.sha256 not in self._wheels:
            where = f"the build of {obtained.project} {obtained.version}"
            rule = self.sources.rules.get(obtained.project, BuildRule())
            if bad := bad_requirements(facts.build_requires):
                raise ResolveError("\n".join(bad), where=where)
            kept = self._kept(obtained.project)
            pins = kept.build.wheels if kept else ()
            offer = Offer(self.sources.index, self.target)
            offer.pinned = PinnedFiles(pins, self.unlisted, self.sources.index.main_label)
            requirements = build_requires(facts, rule)
            wheels = resolve_wheels(requirements, offer, where=where, prefer=pins)
            self.record.tell_wheels(offer, pins, wheels, requirements)
            self._wheels[obtained.sha256] = wheels
        return self._wheels[obtained.sha256]

    def found(self, obtained: Obtained) -> tuple[Wheel, ...]:
        """What one is built with, as far as that was asked for."""
        return self._wheels.get(obtained.sha256, ())

    def place(self, label: Mapping[str, str]) -> None:
        """Say of what has no index that it is from the main one. label: as a wheel has it."""
        self._wheels = {
            sha256: tuple(wheel if wheel.index else wheel.model_copy(update=label) for wheel in build)
            for sha256, build in self._wheels.items()
        }

    def locked(self, obtained: Obtained, facts: Facts, wheel: Wheel) -> Source:
        """A source with what it is built with. wheel: what stood for it."""
        where = f"the build of {obtained.project} {obtained.version}"
        rule = self.sources.rules.get(obtained.project, BuildRule())
        kept = self._kept(obtained.project)
        debs = self.debs(
            {"build": build_debs(obtained.project, facts, rule, self.target)},
            where,
            kept.build.debs if kept else (),
        )
        source = Source(
            project=obtained.project,
            version=obtained.version,
            file=obtained.file,
            size=obtained.size,
            sha256=obtained.sha256,
            url=obtained.url,
            path=obtained.path,
            git=obtained.git,
            subdirectory=obtained.subdirectory,
            build=SourceBuild(
                backend=facts.backend,
                backend_path=facts.backend_path,
                wheels=self.wheels(obtained, facts),
                debs=debs,
                environment=dict(rule.environment),
            ),
            index=wheel.index,
            needed_by=wheel.needed_by,
        )
        if kept and _what(kept) == _what(source):
            # Nothing has changed, so what was built from it stands.
            return source.model_copy(
                update={key: getattr(kept, key) for key in ("wheel", "wheel_size", "wheel_sha256")}
            )
        return source

    def for_whom(self, project: str, facts: Facts) -> str:
        """What is to be known of a source that is compiled, and that nobody has given flags to; else nothing."""
        if not facts.compiles or self.sources.rules.get(project, BuildRule()).environment:
            return ""
        return (
            f"; compiled for any {self.target.architecture.machine} processor: `environment` below "
            f"[tool.tungsten.build.{project}] in pyproject.toml passes flags to its build"
        )

    def _kept(self, project: str) -> Source | None:
        """The project as the earlier lock has it, if it was built then."""
        return next((source for source in self.previous if source.project == project), None)


def _what(source: Source) -> dict[str, Any]:
    """What a source is and is built with; not who needs it, and where it was found."""
    build = source.build.model_copy(
        update={"wheels": tuple(wheel.model_copy(update={"index": None}) for wheel in source.build.wheels)}
    )
    plain = source.model_copy(update={"build": build})
    return plain.model_dump(
        exclude={"needed_by", "yields_to", "index", "wheel", "wheel_size", "wheel_sha256"}
    )
