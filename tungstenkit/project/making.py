"""What is built of a model's folder: the image, its root, the development shell. A model without a lock gets one.

What goes on is told to the project's observer.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit import store
from tungstenkit.export.flake import digest, export
from tungstenkit.fetch.bring import missing_files
from tungstenkit.lock.selection import check_package_set, choose_platform, part_of
from tungstenkit.nix_build.engine import has_image, load_image
from tungstenkit.nix_build.image import (
    Image,
    build_archive,
    build_image,
    build_root,
    build_shell,
    built_layout,
    image_at,
    note_built,
    read_layout,
)
from tungstenkit.platforms import runs_here, this_system
from tungstenkit.project.folder import fetch_inputs, have_inputs, provide_result
from tungstenkit.resolve.opened import missing_programs
from tungstenkit.sdk.errors import BuildError, FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import Platform
    from tungstenkit.project.folder import Project, Shipped
    from tungstenkit.resolve.opened import Start


def _first_lock(project: Project, platform: str | None = None) -> Lock:
    # What makes a lock takes long to import, and who has one needs nothing of it.
    from tungstenkit.project.locking import Relock, make_lock

    made = make_lock(project, Relock(systems=() if platform is None else (platform,)))
    project.watch.locked(made)
    return made.lock


def make_image(
    project: Project,
    engine: str | None,
    reference: str,
    platform: str | None = None,
    out_link: Path | None = None,
) -> tuple[str, Image]:
    """Lock where there is no lock, fetch, export, build, and load into the engine; the image and its platform."""
    is_locked = project.lock_path.exists()
    lock = project.checked_lock() if is_locked else _first_lock(project, platform)
    check_package_set(
        lock,
        "debian",
        hint="`tungsten nix-export` writes a flake for this lock, which Nix builds with nixpkgs",
    )
    system = choose_platform(lock, platform, this_system())
    shipped = project.select_shipped(lock)
    starts = _missing_programs(lock.platforms[system])
    # Who has just locked was told.
    for notice in starts if is_locked else ():
        project.watch.notice(str(notice))
    has = partial(has_image, engine=engine, reference=reference) if engine is not None else None
    with project.exclusively():
        known = _find_built(project, lock, system, shipped, has) if out_link is None else _NOTHING_KNOWN
        if known.image is None and not known.has_inputs:
            fetch_inputs(project, lock, [system], shipped.big)
        image = known.image or _build(project, lock, system, shipped, starts, out_link)
    if system != this_system():
        project.watch.notice(
            f"the image is for {system}, so nothing of it was run: the model's import is not checked"
        )
    if engine is not None:
        if not known.is_loaded:
            with project.watch.working(f"loading into {engine}"):
                load_image(image, engine, reference)
        if not runs_here(system):
            project.watch.notice(
                f"this machine can't run {system} programs, so a container of the image ends with an "
                "`exec format error`: on Debian, qemu-user-static and binfmt-support emulate it"
            )
    return system, image


def make_images(project: Project, reference: str, platform: str | None = None) -> dict[str, Image]:
    """The images of all platforms of the lock, or of the one that is asked for, as `make_image` makes each.

    What others than this machine's take is told before anything is made. Without a lock there is this machine's alone.
    """
    systems: Sequence[str | None] = [platform]
    if platform is None and project.lock_path.exists():
        lock = project.checked_lock()
        # What may not be possible here comes first.
        found = sorted(lock.platforms, key=lambda system: system == this_system())
        if len(found) > 1:
            # Which says what the store has.
            project.bring_nix()
            project.watch.notice(_cost_of_others(lock, found[:-1], found[-1]))
        systems = found
    images: dict[str, Image] = {}
    for system in systems:
        try:
            made, image = make_image(project, None, reference, system)
        except BuildError as problem:
            if system == systems[-1]:
                raise
            raise problem.with_hint(f"`--platform {systems[-1]}` pushes that image alone") from None
        images[made] = image
    return images


def _cost_of_others(lock: Lock, others: Sequence[str], one: str) -> str:
    """What is to be known before images are made of all platforms of a lock. others: but one."""
    wanted = {entry.path: entry.size for entry in missing_files(part_of(lock, others, this_system()))}
    fetched = (
        f"{len(wanted)} files ({sum(wanted.values()) / 1e6:.0f} MB) are fetched for that"
        if wanted
        else "all that it takes is in the Nix store"
    )
    return (
        f"an index of {', '.join(lock.platforms)} is pushed, so the image for {' and '.join(others)} is built, too: "
        f"{fetched}; `--platform {one}` pushes one image alone"
    )


def check_written(project: Project, path: Path, what: str, to_stdout: str) -> None:
    """BuildError where what is written of an image would be a file of the model's, and so in its next image.

    what: such as `an archive`. to_stdout: the words that lead it to standard output instead.
    """
    place = path.resolve()
    model, state = project.directory.resolve(), project.state.resolve()
    if place.is_dir():
        raise BuildError(f"this is a folder, and {what} is one file", where=str(path))
    if path.exists() and not path.is_file():
        # It would be a file then, and a device or a pipe no more.
        raise BuildError(
            "this is no file that could be replaced",
            where=str(path),
            hint=f"{to_stdout} writes to standard output, which a shell can lead there",
        )
    if place.is_relative_to(store.place()):
        raise BuildError(
            "this leads into the Nix store, where nothing is written",
            where=str(path),
            hint="name another file",
        )
    # A build makes the folder of its state.
    if not place.parent.is_dir() and place.parent != state:
        raise BuildError("no such folder", where=str(path.parent))
    if place.is_relative_to(model) and not place.is_relative_to(state):
        raise BuildError(
            f"{what} there would be a file of the model's, and in its next image",
            where=str(path),
            hint=f"{state / path.name} is no file of the model's",
        )


def _link(project: Project, system: str) -> Path:
    """The link to a platform's image that was built last."""
    return project.state / f"image-{system}"


class _Known(NamedTuple):
    """What need not be done again."""

    image: Image | None = None
    """One that need not be built."""
    is_loaded: bool = False
    """Whether it need not be loaded either."""
    has_inputs: bool = False
    """Whether the store has and holds what one is built of."""


_NOTHING_KNOWN = _Known()


def _find_built(
    project: Project, lock: Lock, system: str, shipped: Shipped, has: Callable[[Image], bool] | None
) -> _Known:
    """The image that was built last, where a build would make the same, and would have nothing else to do.

    What counts is what is there now: every byte of what an export would be, and of the store all that a build brings.
    has: whether the engine has an image; None where there is none.
    """
    link = _link(project, system)
    try:
        image, layout = read_layout(link), os.readlink(link)  # noqa: PTH115 (as written)
    except (OSError, ValueError, LookupError):
        return _NOTHING_KNOWN  # or it is damaged
    if not store.is_held(layout, link):
        return _NOTHING_KNOWN
    # Nix and the engine are asked while the export is looked at.
    pool = ThreadPoolExecutor(2)
    try:
        has_inputs = pool.submit(have_inputs, project, lock, [system], shipped.big, [layout])
        is_loaded = pool.submit(has, image) if has is not None else None
        try:
            is_same = layout == built_layout(link, digest(project.spec, lock, shipped.contents(project), {}))
        except (OSError, ValueError, LookupError):
            is_same = False  # a file that can't be read: its export says so
        if not has_inputs.result():
            return _NOTHING_KNOWN
        if not is_same:
            return _Known(has_inputs=True)
        try:
            return _Known(image_at(link), is_loaded is not None and is_loaded.result(), has_inputs=True)
        except FetchError:
            # Garbage is collected, and Nix can't say any more what it was built of: a build tells it.
            return _Known(has_inputs=True)
    finally:
        pool.shutdown(wait=False)


def _build(
    project: Project,
    lock: Lock,
    system: str,
    shipped: Shipped,
    starts: Sequence[Start],
    out_link: Path | None,
) -> Image:
    from tungstenkit.nix_build.left_out import with_better_hint

    flake, exported = _export(project, lock, shipped)
    provide_result(project, lock, system, shipped)
    with project.watch.building() as view:
        try:
            image = build_image(flake, system, _link(project, system), view)
        except BuildError as problem:
            raise with_better_hint(
                problem,
                project.directory,
                shipped.files,
                lock.choices,
                exclude=project.spec.exclude_files,
                starts=starts,
            ) from None
        note_built(_link(project, system), exported)
        if out_link is not None:
            build_archive(flake, system, out_link, view)
    return image


def _export(project: Project, lock: Lock, shipped: Shipped) -> tuple[Path, str]:
    """Write the export that is built, of what is in the store by now; its folder and its digest."""
    flake = project.state / "export"
    # So it needs no URLs, and no network to find them.
    return flake, export(project.spec, lock, shipped.contents(project), {}, flake)


def _missing_programs(platform: Platform) -> list[Start]:
    """The programs that an image's packages start, and that it has not; what a base image has is not known here."""
    if platform.base_image is not None:
        return []
    projects = [*(one.project for one in platform.wheels), *(one.project for one in platform.sources)]
    return list(missing_programs(projects, {deb.name for deb in platform.debs}))


def make_root(project: Project) -> tuple[Path, Path]:
    """Build the image for this machine, and its root; where the two are."""
    system, image = make_image(project, None, "", this_system())
    lock = project.checked_lock()
    shipped = project.select_shipped(lock)
    with project.exclusively():
        # Where the image was there, the export may be another's.
        fetch_inputs(project, lock, [system], shipped.big)
        flake, _ = _export(project, lock, shipped)
        with project.watch.building() as view:
            parts = build_root(flake, system, project.state / "root", view)
    return image.layout, parts


def make_shell(project: Project) -> Path:
    """The folder of the model's development shell, built where what there is does not fit any more."""
    from tungstenkit.run import shell

    # Where a model is worked at, what post_build sees changes all the time; the shell has nothing of what that makes.
    lock = project.checked_lock(with_result=False) if project.lock_path.exists() else _first_lock(project)
    check_package_set(
        lock,
        "debian",
        hint="only Debian's packages have a development shell: `tungsten lock --package-set debian`",
    )
    link = project.state / "shell"
    stamp = shell.stamp(project.spec, lock)
    if not shell.is_current(link, stamp):
        system = choose_platform(lock, this_system(), this_system())
        shipped = project.select_shipped(lock)
        with project.exclusively():
            fetch_inputs(project, lock, [system], shipped.big)
            flake, _ = _export(project, lock, shipped)
            with project.watch.building() as view:
                build_shell(flake, link, view)
            shell.note_stamp(link, stamp)
    return link.resolve()
