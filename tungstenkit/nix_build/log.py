"""Nix's own log (`--log-format internal-json`) becomes calls of a `View`, and a failed build one error.

The error says which step failed and how its log ends. Nothing is printed here.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tungstenkit import lacks
from tungstenkit.nix_program import MAKE_ROOM
from tungstenkit.sdk.errors import BuildError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Nix's internal log: activity and result types (Nix, src/libutil/logging.hh).
_ACTIVITY_BUILD = 105
_RESULT_LOG_LINE = 101
_LEVEL_ERROR = 0

_LOG_KEPT, _LOG_TAIL = 200, 25
"""Lines of a step's log that are kept, and that are shown where the step does not say itself what is wrong."""

_TOLD = "@tungsten "
"""How the line begins by which a program of a step tells us what it is about (`nix/tools/lib/program.py`, `tell`)."""

# As Nix 2.8 and as Nix 2.31 word it.
_FAILED = re.compile(
    r"builder for '/[^'\n]*/[a-z0-9]{32}-([^'\n]+?)\.drv' failed"
    r"|Cannot build '/[^'\n]*/[a-z0-9]{32}-([^'\n]+?)\.drv'\.\s+Reason: builder"
)

# As Nix words it, of a file that was to have a hash.
_OTHER_HASH = re.compile(
    r"hash mismatch in fixed-output derivation '/[^'\n]*/[a-z0-9]{32}-([^'\n]+)\.drv'.*?got:\s+sha256-(\S+)",
    re.DOTALL,
)

# How Nix says that the kernel refuses namespaces, where it makes its sandbox (Nix, local-derivation-goal.cc and its
# successors), and busybox, where a step does.
_NAMESPACES_REFUSED = re.compile(
    r"user namespaces are not enabled|does not support the kernel namespaces"
    r"|cloning builder process|setting up a private mount namespace|unable to unshare|mounting /proc"
    r"|cannot set host name"
)


class OtherHashError(BuildError):
    """A step's file has another hash than it was to have."""

    def __init__(self, what: str, file: str, sha256: str) -> None:
        """State it. what: Nix's own words. file: its name in the store. sha256: what it has, in hexadecimal."""
        super().__init__(what, hint="the message is Nix's own")
        self.file = file
        self.sha256 = sha256


class UnsaidError(BuildError):
    """A build has failed, and Nix does not say why."""

    def __init__(self, status: int) -> None:
        """State it. status: Nix's own."""
        super().__init__(f"nix build ended with status {status}, and does not say why")


class View(Protocol):
    """Who wants to know what a build does."""

    def begin(self, step: str) -> None:
        """A step, such as `layer-wheels`, has begun."""

    def say(self, step: str, line: str) -> None:
        """A step has printed a line."""

    def shows(self, step: str) -> bool:
        """Whether a person sees what a step prints as it comes, so that no error need repeat it."""

    def end(self, step: str) -> None:
        """A step has ended, well or not."""

    def note(self, text: str) -> None:
        """A step says what is no failure, and should be known; some lines."""


class Log:
    """Reads Nix's internal log, line by line."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.steps: dict[int, str] = {}
        self.tails: dict[str, deque[str]] = {}
        self.told: dict[str, list[dict[str, Any]]] = {}
        """What programs of steps told us, by step."""
        self.errors: list[str] = []

    def read(self, line: str) -> None:
        """Take a line of the log."""
        if not line.startswith("@nix "):
            self.errors.append(line.rstrip("\n"))
            return
        event: dict[str, Any] = json.loads(line.removeprefix("@nix "))
        match event:
            case {"action": "start", "type": kind, "id": number, "fields": [str(derivation), *_]} if (
                kind == _ACTIVITY_BUILD
            ):
                step = re.sub(r"^.*/[a-z0-9]{32}-|\.drv$", "", derivation)
                self.steps[number] = step
                self.tails[step] = deque(maxlen=_LOG_KEPT)
                self.view.begin(step)
            case {"action": "stop", "id": number} if number in self.steps:
                step = self.steps.pop(number)
                for told in self.told.get(step, ()):
                    if told["kind"] == "note":
                        self.view.note(_note(told))
                self.view.end(step)
            case {"action": "result", "type": kind, "id": number, "fields": [str(text), *_]} if (
                kind == _RESULT_LOG_LINE and number in self.steps
            ):
                self._listen(self.steps[number], text)
            case {"action": "msg", "level": level, "msg": str(text)} if level == _LEVEL_ERROR:
                self.errors.append(_plain(text))

    def _listen(self, step: str, line: str) -> None:
        """Take a line that a step printed."""
        plain = _without_colours(line)
        if plain.startswith(_TOLD):
            with suppress(ValueError):
                told = json.loads(plain.removeprefix(_TOLD))
                # Whoever runs in a step may write such a line.
                if isinstance(told, dict) and isinstance(told.get("kind"), str):
                    told["log"] = self._tail(step)
                    self.told.setdefault(step, []).append(told)
                    return
        self.tails[step].append(plain)
        self.view.say(step, plain)

    def _tail(self, step: str) -> str:
        return "\n".join(map(_plain, list(self.tails.get(step, ()))[-_LOG_TAIL:]))

    def error(self, status: int) -> BuildError:
        """What a build that has ended with a status has failed by."""
        text = "\n".join(self.errors).strip()
        if not text:
            return UnsaidError(status)
        if "run-tungsten-fetch" in text:
            return BuildError(
                "a file that the lock names is not in the Nix store", hint="run `tungsten fetch`"
            )
        # Nix 2.8 and Nix 2.30 word it in their own ways.
        needed = re.search(r"(?:a|Required system:) '([a-z0-9_]+-[a-z]+)' with features", text)
        if needed:
            return BuildError(
                f"a step of this image runs programs for {needed[1]}, which this machine can't",
                where=text,
                hint=f"build the image on {needed[1]}, or let Nix emulate it (qemu, and `extra-platforms` in nix.conf)",
            )
        failed = _FAILED.search(text)
        step = (failed[1] or failed[2]) if failed else ""
        tail = self._tail(step)
        told = next((one for one in reversed(self.told.get(step, [])) if one["kind"] != "note"), None)
        is_refused = told is not None and told["kind"] == "namespaces-refused"
        if is_refused or _NAMESPACES_REFUSED.search(text + "\n" + tail):
            return namespaces_refused(tail or text)
        if "No space left on device" in text + tail:
            return BuildError(
                "the disk is full",
                where=text,
                hint=f"{MAKE_ROOM} and build again",
            )
        if other := _OTHER_HASH.search(text):
            return OtherHashError(text, other[1], base64.b64decode(other[2]).hex())
        if failed:
            what, where, hint = _words(told or {})
            if what and where:
                return BuildError(what, where=where, hint=hint, step=step, told=told)
            # As it was printed: there whose words they are can be told by `error:`.
            told = told or {"log": "\n".join(list(self.tails.get(step, ()))[-_LOG_TAIL:])}
            return BuildError(tail or text, where=f"the build step {step}", step=step, told=told)
        return BuildError(text, hint="the message is Nix's own")


def _words(told: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """What a step's program says to people, where it is not its log's end: what is wrong, where, and what helps."""
    what, where, hint = (told.get(name) for name in ("what", "where", "hint"))
    return tuple(  # type: ignore[return-value] # three
        _without_colours(part) if isinstance(part, str) and part else None for part in (what, where, hint)
    )


def _note(told: Mapping[str, Any]) -> str:
    """A note in the lines of an error."""
    what, where, hint = _words(told)
    return str(TungstenError(what or "", where=where, hint=hint)).replace("error: ", "note: ", 1)


def _plain(text: str) -> str:
    """Without the terminal's colours, and without Nix's own `error:`."""
    return re.sub(r"^error:\s*", "", _without_colours(text))


# Control sequences and strings (ECMA-48, 5.4 and 5.6), and what else a terminal obeys but for the ends of lines.
_CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)


def _without_colours(text: str) -> str:
    """What a step says, as text alone: it is somebody else's, and this terminal the user's."""
    return _CONTROLS.sub("", text)


def namespaces_refused(said: str, settings: Path = Path("/proc/sys")) -> BuildError:
    """The error for a kernel that refuses namespaces, with the remedy for this machine.

    said: what the system says. settings: where the kernel shows its own (proc(5), "/proc/sys").
    """
    return BuildError(
        f"this machine does not allow user namespaces, without which {lacks.NAMESPACES.means}",
        where=said,
        hint=lacks.namespaces_hint(settings=settings),
    )
