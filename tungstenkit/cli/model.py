"""A model that a command is to run, by an image, its folder, or this machine's own Python."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from tungstenkit.sdk.errors import RunError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tungstenkit.machine import Needs
    from tungstenkit.project.folder import Project
    from tungstenkit.run.address import Address
    from tungstenkit.run.local import Handover
    from tungstenkit.run.program import Program


@dataclass(frozen=True)
class Model:
    """What `serve`, `demo` and `predict` run, and how."""

    target: str
    module: str | None
    class_name: str | None
    local: bool
    gpus: str | None
    engine_args: list[str]
    model_python: str | None
    trust: bool
    no_engine: bool = False
    """Whether a folder's image is run without an engine, though there be one."""

    def program(self, address: Address, flags: list[str], scratch: Path) -> Program:
        """Build the image if need be, and warn where the machine lacks what the model needs."""
        from tungstenkit.cli.terminal import TERMINAL
        from tungstenkit.nix_build.engine import find_engine, image_reference
        from tungstenkit.project.folder import Project
        from tungstenkit.project.making import make_image
        from tungstenkit.run.container import container_program, image_needs
        from tungstenkit.spec.read import repository_name

        directory = Path(self.target)
        if self.local:
            project = Project.read(directory, self.module, self.class_name, TERMINAL, trust=self.trust)
            say_what_local_leaves_out(project)
            return self._local(project, address, flags, scratch / "spec.json")
        engine = None if self.no_engine else find_engine()
        image = self.target
        if directory.is_dir():
            project = Project.read(directory, self.module, self.class_name, TERMINAL, trust=self.trust)
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
                f"there is no folder {self.target!r}, and what runs an image by its name is an engine: {why}",
                hint="name the model's folder, whose image is run without one, too",
            )
        needs = image_needs(engine, image)
        self._check(needs)
        gpus = self.gpus if needs.gpu else None
        return container_program(engine, image, address, flags, gpus=gpus, engine_args=self.engine_args)

    def serve_reloading(
        self, address: Address, flags: list[str], scratch: Path, on_ready: Callable[[], None]
    ) -> None:
        """Serve a folder here until KeyboardInterrupt, its new code whenever it changes."""
        from tungstenkit.cli.progress import err
        from tungstenkit.cli.terminal import TERMINAL
        from tungstenkit.project.folder import Project
        from tungstenkit.run import reload
        from tungstenkit.spec.files import select_files

        projects = [Project.read(Path(self.target), self.module, self.class_name, TERMINAL, trust=self.trust)]
        directory, gpu = projects[0].directory, projects[0].spec.gpu
        say_what_local_leaves_out(projects[0])
        programs = 0

        def start(handover: Handover) -> Program:
            nonlocal programs
            programs += 1
            if programs > 1:
                projects.append(
                    Project.read(directory, self.module, self.class_name, TERMINAL, trust=self.trust)
                )
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
                say=partial(err.print, markup=False),
                on_ready=on_ready,
                alone=gpu and self.gpus is not None,
            ).run(events)
        stop.set()

    def _in_its_root(self, project: Project, address: Address, flags: list[str], scratch: Path) -> Program:
        """The server in the image's own root, without an engine."""
        from tungstenkit.cli.progress import err
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
            err.print(
                "there is no podman, and no docker with a daemon: the image's root is run without one, apart from this "
                "machine but for its network"
            )
        self._check(Needs(spec.mem_gb, spec.gpu, spec.gpu_mem_gb))
        layout, parts = make_root(project)
        settings = settings_for_server(environment_for_server())
        return root_program(layout, parts, scratch, address, flags, settings)

    def _local(
        self,
        project: Project,
        address: Address,
        flags: list[str],
        spec_file: Path,
        handover: Handover | None = None,
    ) -> Program:
        from tungstenkit.machine import Needs
        from tungstenkit.run.local import LocalModel, local_program

        spec = project.spec
        self._check(Needs(spec.mem_gb, spec.gpu, spec.gpu_mem_gb))
        model = LocalModel(spec, project.directory, self.gpus, self.model_python or sys.executable)
        return local_program(model, spec_file, address, flags, handover)

    def _check(self, needs: Needs) -> None:
        from rich.markup import escape

        from tungstenkit import machine
        from tungstenkit.cli.progress import err

        gpu_room = machine.gpu_memory(self.gpus) if needs.gpu and self.gpus is not None else None
        for notice in machine.shortages(needs, machine.memory(), gpu_room):
            err.print(f"[yellow]warning:[/] {escape(notice)}")


def say_what_local_leaves_out(project: Project) -> None:
    """Warn of what a model has in its image alone, and not in its folder."""
    from rich.markup import escape

    from tungstenkit.cli.progress import err
    from tungstenkit.fetch.declared_here import find_absent
    from tungstenkit.spec.files import excluding

    for name in find_absent(project.spec.files, project.directory):
        err.print(f"[yellow]warning:[/] --local downloads nothing: {escape(name)} is not here")
    if project.spec.has_post_build:
        call = f"from {project.spec.module} import {project.spec.class_name} as M; M.post_build()"
        kept_out = excluding(project.spec.exclude_files, "WHAT_IT_MAKES")
        err.print(
            "[yellow]warning:[/] --local does not run post_build: what it makes must be in the folder. "
            + escape(
                f"`python -c '{call}'` makes it there; {kept_out} in define_model(…) keeps it out of the image"
            )
        )
