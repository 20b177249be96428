"""An export that may be anybody's, built by Nix: nothing of it is run but in the sandbox, and nothing is fetched.

It is evaluated in pure and restricted mode, without flakes: it reads itself alone, no variable, no clock, no address,
and it builds nothing on the way. What is to be built is looked at before: all that is fixed by a hash must be in the
store, since such a build alone would have the network.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tungstenkit import nix_program, store
from tungstenkit.nix_build.image import check_taken
from tungstenkit.nix_build.process import check_builders, check_daemon, run_build
from tungstenkit.platforms import this_system
from tungstenkit.sdk.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Collection

    from tungstenkit.nix_build.log import View
    from tungstenkit.prove.exported import Export

_PATIENCE = 600
"""Seconds that an evaluation may take; ours takes one."""
_ROOM = 4 << 30
"""Bytes of memory that it may take; ours takes a hundredth."""
_MOST_SAID = 1 << 22
"""Letters that it may print; ours prints a line."""
_LONGEST, _TOLD = 2000, 20
_URL = "tungsten-export:source"
"""What the export is called where Nix is told of it: no address, and what is in the store is fetched from nowhere."""
_EXPRESSION = """
let export = builtins.fetchTarball {{ name = "source"; url = "{url}"; sha256 = "{sha256}"; }};
in (import (export + "/nix")).exported export
"""


def rebuild(export: Export, system: str, scratch: Path, view: View, rerun: Collection[str] = ()) -> Path:
    """Build an export's image for a platform; its layout, which a link in `scratch` holds.

    rerun: store paths of recorded results, which are made again, with the network, and compared with their hashes.

    Raises BuildError for an export that asks for anything else than what was brought.
    """
    check_builders()
    check_daemon()
    source = store.add_tree(export.folder)
    store.hold(source, scratch / "source-root")
    sha256 = _nix("nix-store", "--query", "--hash", source).strip()
    arguments = [
        *("--expr", _EXPRESSION.format(url=_URL, sha256=sha256)),
        # Its import is not tried: that is about the model, and not about what it was built of.
        f"packages.{this_system()}.model-image-{system}-dir.unchecked",
    ]
    derivation = _evaluated(arguments)
    again = _check_fixed(derivation, rerun)
    link = scratch / "rebuilt"
    try:
        run_build([*_options(), *arguments, "--out-link", str(link)], view, scratch)
        for name in again:
            _nix("nix-store", "--realise", "--check", name)
    finally:
        # What has failed may have done so, too.
        check_taken(derivation)
    return link.resolve()


def _options() -> list[str]:
    """Options for a Nix that reads what is not ours; they come after those of `store.options`."""
    # `getFlake` would reach the network, whatever is restricted.
    features = [
        "nix-command",
        *(["auto-allocate-uids"] if store.builders() is store.Builders.ALLOCATED else []),
    ]
    settings = {
        "experimental-features": " ".join(features),
        "pure-eval": "true",
        "restrict-eval": "true",
        "allowed-uris": _URL,
        "allow-import-from-derivation": "false",
        "allow-unsafe-native-code-during-evaluation": "false",
        "eval-cache": "false",
        "builders": "",
        # Such as the machine's own /dev/kvm.
        "system-features": "",
    }
    return [part for name, value in settings.items() for part in ("--option", name, value)]


def _evaluated(arguments: list[str]) -> str:
    """The derivation that an export's image is made by."""
    command = ["nix", *store.options(), *_options(), "path-info", "--derivation", *arguments]
    environment = {**nix_program.environment(), "NIX_PATH": ""}
    process = nix_program.start(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        # What it would take more, it takes from all that runs on this machine.
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (_ROOM, _ROOM))
        out, err = _heard(process)
    if process.returncode != 0:
        raise BuildError(
            f"the export can't be evaluated: {_words(err)}",
            hint="it reads what is not in it, or is of a tungsten that this Nix does not know: nothing of it was built",
        )
    return out.strip()


def _heard(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What Nix prints while it evaluates, to its end. Raises BuildError where that does not come."""
    said: dict[IO[str], str] = {}
    too_much = threading.Event()

    def listen(stream: IO[str]) -> None:
        said[stream] = ""
        while piece := stream.read(1 << 16):
            said[stream] += piece
            # An expression may print what it likes, as often as it likes.
            if len(said[stream]) > _MOST_SAID:
                too_much.set()
                process.kill()
                return

    assert process.stdout is not None
    assert process.stderr is not None
    streams = (process.stdout, process.stderr)
    threads = [threading.Thread(target=listen, args=[stream]) for stream in streams]
    for thread in threads:
        thread.start()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        raise _endless(f"the export is not evaluated within {_PATIENCE} seconds") from None
    finally:
        process.kill()
        for thread in threads:
            thread.join()
    if too_much.is_set():
        raise _endless("the export prints without end while it is evaluated")
    out, err = (said[stream] for stream in streams)
    return out, err


def _endless(what: str) -> BuildError:
    return BuildError(what, hint="no tungsten writes such an export: nothing of it was built")


def _words(said: str) -> str:
    """What is wrong, of all that Nix says."""
    found = re.findall(r"(?m)^\s*error:\s*(\S.*(?:\n(?!\s*(?:at |…|\(use|error:)).*)*)", said)
    return (found[-1] if found else said).strip()[:_LONGEST]


def _check_fixed(derivation: str, rerun: Collection[str]) -> list[str]:
    """The derivations of results that are to be made again, and that the store has already.

    Raises BuildError for what would be fetched, and for what this machine would not build itself.
    """
    told = json.loads(_nix("nix", "show-derivation", "--recursive", derivation))
    every: dict[str, dict[str, Any]] = told.get("derivations", told)
    for name, one in every.items():
        if one.get("system") not in (this_system(), "builtin"):
            raise BuildError(
                f"the export would have {Path(name).name} built on another machine, {str(one.get('system'))[:80]!a}",
                hint="verify it on such a machine",
            )
    fixed = {name: paths for name, one in every.items() if (paths := _fixed_outputs(one))}
    lacking = store.missing([path for paths in fixed.values() for path in paths])
    fetched: list[str] = []
    again: list[str] = []
    waiting, seen = [derivation], {derivation}
    while waiting:
        name = waiting.pop()
        is_again = name in fixed and set(rerun).issuperset(fixed[name])
        if name in fixed and lacking.isdisjoint(fixed[name]) and not is_again:
            continue  # it is there, and nothing that it is made of is looked for
        if is_again and lacking.isdisjoint(fixed[name]):
            again.append(name)
        if name in fixed and not is_again:
            fetched.append(Path(name).name.partition("-")[2].removesuffix(".drv"))
            continue
        new = set(_inputs(every[name])) - seen
        seen |= new
        waiting += new
    if fetched:
        raise BuildError(
            f"the export would fetch what its lock does not name: {', '.join(sorted(fetched)[:_TOLD])}",
            hint="no tungsten writes such an export: nothing of it was built",
        )
    return again


def _fixed_outputs(one: dict[str, Any]) -> list[str]:
    """The paths of what is fixed by a hash, and may be fetched therefore."""
    is_fixed = "outputHash" in one.get("env", {})
    return [
        # One without a path is known by no hash yet: none of ours is.
        f"{store.place()}/{Path(output.get('path') or 'unknown').name}"
        for output in one["outputs"].values()
        if is_fixed or "hash" in output or not output.get("path")
    ]


def _inputs(one: dict[str, Any]) -> Collection[str]:
    found = one.get("inputDrvs")
    return found if isinstance(found, dict) else one.get("inputs", {}).get("drvs", {})


def _nix(*command: str) -> str:
    program, *arguments = command
    run = nix_program.run([program, *store.options(), *arguments])
    if run.returncode != 0:
        raise BuildError(f"Nix refused: {run.stderr.strip()[:_LONGEST]}", where=" ".join(command[:2]))
    return run.stdout
