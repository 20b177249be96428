"""`nix build` as a process: with how many steps at a time, by whom, and in which sandbox."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
from typing import TYPE_CHECKING

from tungstenkit import nix_program, store
from tungstenkit.machine import memory, processors
from tungstenkit.nix_build.log import Log, View
from tungstenkit.sdk.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOST_STEPS = 4
"""At a time. More wait for one another's disk, and each may start as many processes as there are processors."""
_MEMORY_OF_A_STEP = 2 << 30
"""In bytes; what reading, packing and compiling packages has never needed."""


def run_build(arguments: Sequence[str], view: View, folder: Path) -> None:
    """`nix build` with arguments, in a folder. Raises BuildError with the end of the failed step's log."""
    _check_builders()
    _check_daemon()
    command = ["nix", *store.options(), *_pace(), "build", *arguments]
    command += ["--log-format", "internal-json", "-v"]
    # What else an expression might look at (Nix manual, "NIX_PATH").
    environment = {**nix_program.environment(), "NIX_PATH": ""}
    process = nix_program.start(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    log = Log(view)
    assert process.stderr is not None
    with process:
        try:
            for line in process.stderr:
                log.read(line)
        except BaseException:
            # Where a signal was for us alone, Nix would go on.
            process.terminate()
            raise
    if process.returncode != 0:
        raise log.error(process.returncode)


def _pace() -> list[str]:
    """Options for how many steps run at a time, one in Nix's own default, and how many processors each may use.

    Both are this machine's, and what its or the user's configuration of Nix says of one stands. A step that is heavy on
    memory, the model's own code, needs the others' results, so it runs when they are done.
    """
    cores, room = processors(), memory()
    steps = min(cores, _MOST_STEPS, max(1, room.free // _MEMORY_OF_A_STEP) if room else 1)
    said = store.configured()
    ours = {"max-jobs": steps, "cores": cores}
    return [
        part
        for name, value in ours.items()
        if said.isdisjoint({name, f"build-{name}"})
        for part in ("--option", name, str(value))
    ]


def _check_builders() -> None:
    """BuildError where root has nobody else to build as: what an image is made of runs in builds, the model's own code
    too, and must not be the machine's root.
    """
    if store.builders() is store.Builders.NONE:
        raise BuildError(
            "there are no users for Nix to build as, and what runs in a build must not be this machine's root",
            hint=f"make them once, which `make setup` does, too: `{store.BUILD_USERS_COMMAND}`; or run tungsten as"
            " another user, with a Nix store of their own",
        )


def _names_of_this_user() -> set[str]:
    """By which a daemon may trust them: their own, and `@` with that of each group; none without an account."""
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:
        return set()
    groups = (grp.getgrgid(number).gr_name for number in os.getgrouplist(user.pw_name, user.pw_gid))
    return {user.pw_name, *(f"@{group}" for group in groups)}


def _check_daemon() -> None:
    """BuildError where a daemon builds for us that may do so without the sandbox.

    A daemon takes settings from trusted users alone and ignores the others' without a word (Nix 2.8), so its own
    configuration counts. Without a daemon our options do.
    """
    state = nix_program.variable("NIX_STATE_DIR", "/nix/var/nix")
    # As Nix chooses its store (Nix manual, `store` setting, "auto"). Our own has no daemon.
    if nix_program.current().is_own or (not store.has_daemon() and os.access(state, os.W_OK)):
        return
    command = ["nix", "--extra-experimental-features", "nix-command", "show-config", "--json"]
    # Neither this user's files nor variables are the daemon's.
    system = {**nix_program.environment("NIX_CONFIG"), "NIX_USER_CONF_FILES": ""}
    run = nix_program.run(command, env=system)
    run.check_returncode()
    settings = {name: setting["value"] for name, setting in json.loads(run.stdout).items()}
    if not {"*", *_names_of_this_user()}.isdisjoint(settings["trusted-users"]):
        return
    if settings["sandbox"] is not True or settings["sandbox-fallback"] is not False:
        raise BuildError(
            "the Nix daemon does not promise the sandbox, and would ignore this user's wish for it",
            where="/etc/nix/nix.conf",
            hint="set `sandbox = true` and `sandbox-fallback = false` there, or add this user to `trusted-users`",
        )
