"""What a lock's builds need: every file that it names, with what is needed to find it. Nothing is asked here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tungstenkit import store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.packages import Deb, GitCommit, Source, Wheel
    from tungstenkit.lock.parts import BaseLayer, CommandResult, PostBuild, Tools


@dataclass(frozen=True)
class LockedFile:
    """One file that a lock names."""

    file: str
    """A `mirror://` name, or a wheel's file name."""
    size: int
    """In bytes."""
    sha256: str
    project: str | None = None
    """The wheel's project; None for anything else."""
    release: str | None = None
    """The Debian release that a package is from; None for anything else."""
    snapshot: str | None = None
    """Of a package that its release's own snapshot has not: the moment of one that has."""
    url: str | None = None
    """Where the model itself says that it is, http or https."""
    local: str | None = None
    """The same: a file or folder, relative to the model's folder."""
    git: GitCommit | None = None
    """The same: what it is made of."""
    image: str | None = None
    """`NAME@DIGEST`: an image that has it as a blob."""
    place: tuple[str, str, str, str] | None = None
    """Of a file on the Hugging Face hub: `model` or `dataset`, the repository, the commit, the path in it."""

    @property
    def name(self) -> str:
        """Its store name."""
        return store.store_name(self.file.rpartition("/")[2])

    @property
    def is_own(self) -> bool:
        """Whether it is made of a file, a folder or a git repository that the model names, so that no mirror has it."""
        return self.local is not None or self.git is not None

    @property
    def path(self) -> str:
        """Its store path."""
        return store.file_path(self.sha256, self.name)


def needed_files(lock: Lock) -> tuple[LockedFile, ...]:
    """Every file that a build of the lock needs, each once, sorted by store name."""
    from tungstenkit.registry.skopeo import with_digest

    files: list[LockedFile] = []
    wheels: list[Wheel] = []
    archives: list[LockedFile] = []
    for platform in lock.platforms.values():
        files += [deb_file(deb, release) for release, deb in platform.every_deb]
        wheels += platform.wheels
        for source in platform.sources:
            archives += source_files(source, platform.release)
        if platform.base_image is not None:
            base = platform.base_image
            archives += layer_files(with_digest(base.reference, base.digest), base.layers)
    for environment in lock.server.values():
        wheels += environment.wheels
    for tools in lock.tools.values():
        for root in (tools.layers, tools.byte_code):
            files += [deb_file(deb, root.release) for deb in root.debs]
        files += [deb_file(deb, tools.layers.release) for deb in (tools.busybox, tools.bash)]
    files += [wheel_file(wheel) for wheel in wheels]
    files += archives
    files += declared_files(lock)
    return tuple(
        {(file.name, file.sha256): file for file in sorted(files, key=lambda file: file.name)}.values()
    )


def declared_files(lock: Lock) -> list[LockedFile]:
    """What the model declares in `files`."""
    found = [LockedFile(one.to, one.size, one.sha256, url=one.url) for one in lock.files.downloads]
    for repository in lock.files.repositories:
        for file in repository.files:
            place = (repository.type, repository.repository, repository.commit, file.path)
            found.append(LockedFile(file.path, file.size, file.sha256, place=place))
    return found


def gated_hashes(lock: Lock) -> set[str]:
    """The sha256 of the files that the hub gives only to some: no URL of theirs is of use to Nix."""
    return {
        file.sha256
        for repository in lock.files.repositories
        if repository.restricted
        for file in repository.files
    }


def deb_file(deb: Deb, release: str) -> LockedFile:
    """A Debian package's file. release: what it is from."""
    return LockedFile(deb.file, deb.size, deb.sha256, release=release, snapshot=deb.snapshot)


def wheel_file(wheel: Wheel) -> LockedFile:
    """A wheel's file."""
    return LockedFile(
        wheel.file, wheel.size, wheel.sha256, project=wheel.project, url=wheel.url, local=wheel.path
    )


def source_files(source: Source, release: str) -> list[LockedFile]:
    """What the build of a source needs beside the tools: its archive, its build requirements, its root."""
    archive = LockedFile(source.file, source.size, source.sha256, project=source.project)
    return [
        replace(archive, url=source.url, local=source.path, git=source.git),
        *(wheel_file(wheel) for wheel in source.build.wheels),
        *(deb_file(deb, release) for deb in source.build.debs),
    ]


def layer_files(reference: str, layers: Iterable[BaseLayer]) -> list[LockedFile]:
    """The layers of a base image. reference: its name and digest."""
    files = [(layer.digest.removeprefix("sha256:"), layer.size) for layer in layers]
    return [LockedFile(f"layer-{sha256}", size, sha256, image=reference) for sha256, size in files]


def built_file(source: Source) -> LockedFile:
    """The wheel that a sealed lock's source became; it is in the store, and nowhere else."""
    assert source.wheel is not None
    assert source.wheel_size is not None
    assert source.wheel_sha256 is not None
    return LockedFile(source.wheel, source.wheel_size, source.wheel_sha256, project=source.project)


def tool_files(tools: Tools) -> list[LockedFile]:
    """The programs that every build runs, but for those that compile byte-code."""
    debs = [*tools.layers.debs, tools.busybox]
    return [deb_file(deb, tools.layers.release) for deb in debs]


def built_files(lock: Lock) -> list[tuple[Source, LockedFile]]:
    """The wheels that are built of the lock's sources."""
    return [
        (source, built_file(source))
        for platform in lock.platforms.values()
        for source in platform.sources
        if source.wheel is not None
    ]


def result_files(lock: Lock) -> list[LockedFile]:
    """What the lock's build steps have made."""
    made: list[PostBuild | CommandResult | None] = []
    for platform in lock.platforms.values():
        made += [platform.post_build, *platform.commands]
    return [LockedFile(entry.file, entry.size, entry.sha256) for entry in made if entry is not None]
