"""A model that is to be run, by an image or its folder, and how: from there to a server's program."""

from __future__ import annotations

import os
import re
import sys
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from tungstenkit.sdk.errors import RunError, TungstenError
from tungstenkit.watch import UNWATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tungstenkit.machine import Needs
    from tungstenkit.project.folder import Project
    from tungstenkit.run.address import Address
    from tungstenkit.run.local import Handover
    from tungstenkit.run.program import Program
    from tungstenkit.watch import Watch


@dataclass(frozen=True)
class Target:
    """What is run, and how."""

    name: str
    """An image, a model's folder, or the URL of a server that runs already."""
    module: str | None = None
    class_name: str | None = None
    local: bool = False
    """Whether a folder is run as it is, in this Python."""
    gpus: str | None = "all"
    engine_args: Sequence[str] = ()
    model_python: str | None = None
    trust: bool = False
    no_engine: bool = False
    """Whether a folder's image is run without an engine, though there be one."""
    watch: Watch = field(default=UNWATCHED, repr=False, compare=False)

    @property
    def is_url(self) -> bool:
        """Whether it is a server that runs already."""
        return re.match("https?://", self.name) is not None

    @cached_property
    def project(self) -> Project | None:
        """The model's folder, read once; None where it is none. Raises what is wrong with the declaration."""
        if not self.local and (self.is_url or not Path(self.name).is_dir()):
            return None
        return self._read(Path(self.name))

    def program(self, address: Address, flags: Sequence[str], scratch: Path) -> Program:
        """Build the image if need be, and warn where the machine lacks what the model needs.

        flags: the server's. scratch: a folder for what the server alone reads.
        """
        from tungstenkit.models.built import folders_hint
        from tungstenkit.nix_build.engine import find_engine, image_reference
        from tungstenkit.project.making import make_image
        from tungstenkit.run.container import container_program, image_needs
        from tungstenkit.spec.read import repository_name

        project = self.project
        if self.local and project is not None:
            self._say_what_local_leaves_out(project)
            return self._local(project, address, flags, scratch / "spec.json")
        engine = None if self.no_engine else find_engine()
        image = self.name
        if project is not None:
            if engine is None:
                return self._in_its_root(project, address, flags, scratch)
            image = image_reference(repository_name(project.directory.name), "latest", engine)
            make_image(project, engine, image)
        elif engine is None:
            why = (
                "--no-engine leaves that out"
                if self.no_engine
                else "there is no podman, and no docker with a daemon"
            )
            raise RunError(
                f"there is no folder {self.name!r}, and what runs an image by its name is an engine: {why}",
                hint=folders_hint(image) or "name the model's folder, whose image is run without one, too",
            )
        try:
            needs = image_needs(engine, image)
        except RunError as problem:
            raise (problem.reworded(hint=hint) if (hint := folders_hint(image)) else problem) from None
        self._check(needs)
        gpus = self.gpus if needs.gpu else None
        return container_program(engine, image, address, flags, gpus=gpus, engine_args=self.engine_args)

    def serve_reloading(
        self, address: Address, flags: Sequence[str], scratch: Path, on_ready: Callable[[], None]
    ) -> None:
        """Serve a folder here until KeyboardInterrupt, its new code whenever it changes."""
        from tungstenkit.run import reload
        from tungstenkit.spec.files import select_files

        projects = [self._read(Path(self.name))]
        directory, gpu = projects[0].directory, projects[0].spec.gpu
        self._say_what_local_leaves_out(projects[0])
        programs = 0

        def start(handover: Handover) -> Program:
            nonlocal programs
            programs += 1
            if programs > 1:
                projects.append(self._read(directory))
            return self._local(projects[-1], address, flags, scratch / f"spec-{programs}.json", handover)

        def look() -> reload.State:
            spec = projects[-1].spec
            try:
                files = select_files(directory, spec.include_files, spec.exclude_files, spec.module)
            except TungstenError:
                return {}  # half of a change; the other half is about to come
            return reload.state(directory, (file.path for file in files))

        events: SimpleQueue[reload.Event] = SimpleQueue()
        stop = threading.Event()
        watcher = threading.Thread(target=reload.watch, args=(directory, look, events, stop), daemon=True)
        with address.listen() as listener:
            watcher.start()
            reload.Reloading(
                start,
                listener,
                say=self.watch.notice,
                on_ready=on_ready,
                alone=gpu and self.gpus is not None,
            ).run(events)
        stop.set()

    def _read(self, directory: Path) -> Project:
        from tungstenkit.project.folder import Project

        return Project.read(directory, self.module, self.class_name, self.watch, trust=self.trust)

    def _in_its_root(
        self, project: Project, address: Address, flags: Sequence[str], scratch: Path
    ) -> Program:
        """The server in the image's own root, without an engine."""
        from tungstenkit import store
        from tungstenkit.machine import Needs
        from tungstenkit.project.making import make_root
        from tungstenkit.run.image_root import root_program
        from tungstenkit.run.program import environment_for_server, settings_for_server

        spec = project.spec
        if spec.gpu and self.gpus is not None:
            raise RunError(
                "without an engine there is no GPU: it is the engine that puts this machine's driver into an image",
                hint="--no-gpu runs the model without one; or install podman and the NVIDIA container toolkit",
            )
        if not self.no_engine:
            self.watch.notice(
                "there is no podman, and no docker with a daemon: the image's root is run without one, apart from this "
                "machine but for its network"
            )
        self._check(Needs(spec.mem_gb, spec.gpu, spec.gpu_mem_gb))
        layout, parts = make_root(project)
        # The folder's own link goes on to the next image, or goes with the model; no path is seen of what is bound.
        store.hold(str(parts), scratch / "held")
        settings = settings_for_server(environment_for_server())
        return root_program(layout, parts, scratch, address, flags, settings)

    def _local(
        self,
        project: Project,
        address: Address,
        flags: Sequence[str],
        spec_file: Path,
        handover: Handover | None = None,
    ) -> Program:
        from tungstenkit.machine import Needs
        from tungstenkit.run.local import LocalModel, local_program

        spec = project.spec
        self._check(Needs(spec.mem_gb, spec.gpu, spec.gpu_mem_gb))
        python = self.model_python or os.environ.get("TUNGSTEN_MODEL_PYTHON") or sys.executable
        model = LocalModel(spec, project.directory, self.gpus, python)
        return local_program(model, spec_file, address, flags, handover)

    def _check(self, needs: Needs) -> None:
        from tungstenkit import machine

        gpu_room = machine.gpu_memory(self.gpus) if needs.gpu and self.gpus is not None else None
        for notice in machine.shortages(needs, machine.memory(), gpu_room):
            self.watch.warn(notice)

    def _say_what_local_leaves_out(self, project: Project) -> None:
        """Warn of what a model has in its image alone, and not in its folder."""
        from tungstenkit.fetch.declared_here import find_absent
        from tungstenkit.spec.files import excluding

        for name in find_absent(project.spec.files, project.directory):
            self.watch.warn(f"--local downloads nothing: {name} is not here")
        if project.spec.has_post_build:
            call = f"from {project.spec.module} import {project.spec.class_name} as M; M.post_build()"
            kept_out = excluding(project.spec.exclude_files, "WHAT_IT_MAKES")
            self.watch.warn(
                "--local does not run post_build: what it makes must be in the folder. "
                f"`python -c '{call}'` makes it there; {kept_out} in define_model(…) keeps it out of the image"
            )


def server_flags(
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    setup_timeout: float | None = None,
    prediction_timeout: float | None = None,
) -> list[str]:
    """What a server is told of what may be chosen when it is started."""
    given = {
        "--max-batch-size": batch_size,
        "--workers": workers,
        "--setup-timeout": setup_timeout,
        "--prediction-timeout": prediction_timeout,
    }
    return [text for flag, value in given.items() if value is not None for text in (flag, str(value))]
