"""`nix build` on an export, and the image into an engine.

Nix's own log (`--log-format internal-json`) is turned into calls of a `View`, and a failed build into one error
that says which step failed and how its log ends. Nothing is printed here.
"""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tungstenkit import certificates, store
from tungstenkit.machine import memory, processors
from tungstenkit.outside import IMAGE_NAME, IMAGE_TAG, LONGEST_NAME
from tungstenkit.platforms import this_system
from tungstenkit.sdk.errors import BuildError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Nix's internal log: activity and result types (Nix, src/libutil/logging.hh).
_ACTIVITY_BUILD = 105
_RESULT_LOG_LINE = 101
_LEVEL_ERROR = 0

_LOG_KEPT, _LOG_TAIL = 200, 25
"""Lines of a step's log that are kept, and that are shown where the step does not say itself what is wrong."""

_MOST_STEPS = 4
"""At a time. More wait for one another's disk, and each may start as many processes as there are processors."""
_MEMORY_OF_A_STEP = 2 << 30
"""In bytes; what reading, packing and compiling packages has never needed."""

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
)


class OtherHashError(BuildError):
    """A step's file has another hash than it was to have."""

    def __init__(self, what: str, file: str, sha256: str) -> None:
        """State it. what: Nix's own words. file: its name in the store. sha256: what it has, in hexadecimal."""
        super().__init__(what, hint="the message is Nix's own")
        self.file = file
        self.sha256 = sha256


class View(Protocol):
    """Who wants to know what a build does."""

    def begin(self, step: str) -> None:
        """A step, such as `layer-wheels`, has begun."""

    def say(self, step: str, line: str) -> None:
        """A step has printed a line."""

    def end(self, step: str) -> None:
        """A step has ended, well or not."""

    def note(self, text: str) -> None:
        """A step says what is no failure, and should be known; some lines."""


@dataclass(frozen=True)
class Image:
    """A built image, as a layout in the Nix store."""

    layout: Path
    digest: str
    """Of the manifest: `sha256:…`."""
    image_id: str
    """The digest of the config: it covers the uncompressed layers alone."""
    size: int
    """Of all blobs, in bytes."""


def build(export: Path, system: str, link: Path, view: View) -> Image:
    """Build an export's image for a platform on this machine, whose tools the export's lock has.

    link: becomes a link to the image's layout, which also keeps it from garbage collection.

    Raises BuildError with the end of the failed step's log.
    """
    _nix_build(export, f"model-image-{system}-dir", link, view)
    _check_store(link.resolve(), link.with_name("store-checked"))
    return read_layout(link.resolve())


def _check_store(layout: Path, stamp: Path) -> None:
    """BuildError where code that ran in builds has changed what an image is made of.

    It can't, by all that we know. Where one user builds and has the store, nothing but the mounts of a step keeps it
    from that, so it is looked at; elsewhere the store is another's. stamp: a file whose time is that of the last look.
    """
    if not store.is_ours():
        return
    began, before = stamp.with_name(f"{stamp.name}.new"), stamp.stat().st_mtime if stamp.exists() else 0
    began.touch()
    if changed := store.changed(store.built_from(str(layout)), before):
        raise BuildError(
            "what this image is made of was changed in the Nix store, perhaps by code that ran in a build",
            where=", ".join(changed),
            hint="`nix-store --verify --check-contents --repair` mends a store; build nothing on it before",
        )
    began.replace(stamp)


def build_archive(export: Path, system: str, link: Path, view: View) -> None:
    """The same image as one file for `podman load` and `docker load`."""
    _nix_build(export, f"model-image-{system}", link, view)


def build_root(export: Path, system: str, link: Path, view: View) -> Path:
    """The same image's root as folders that lie over each other (`nix/image/root-parts.nix`)."""
    _nix_build(export, f"model-image-{system}.root", link, view)
    return link.resolve()


def build_shell(export: Path, link: Path, view: View) -> None:
    """The development shell's folder; link: becomes a link to it, and keeps it."""
    _nix_build(export, "shell", link, view)


def _nix_build(export: Path, attribute: str, link: Path, view: View) -> None:
    arguments = [
        # From inside the folder: as part of a URL, Nix takes few letters of a path, and decodes none (2.8).
        f"path:.#packages.{this_system()}.{attribute}",
        *("--out-link", str(link.absolute())),
    ]
    run_build(arguments, view, export)


def run_build(arguments: Sequence[str], view: View, folder: Path) -> None:
    """`nix build` with arguments, in a folder. Raises BuildError with the end of the failed step's log."""
    _check_builders()
    _check_daemon()
    command = ["nix", *store.options(), *_pace(), "build", *arguments]
    command += ["--log-format", "internal-json", "-v"]
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        raise BuildError(
            "Nix is not installed: there is no `nix` on PATH",
            hint="on Debian: apt-get install nix-bin; elsewhere see the Nix manual",
        ) from None
    log = _Log(view)
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


def _check_daemon() -> None:
    """BuildError where a daemon builds for us that may do so without the sandbox.

    A daemon takes settings from trusted users alone and ignores the others' without a word (Nix 2.8), so its own
    configuration counts. Without a daemon our options do.
    """
    state = os.environ.get("NIX_STATE_DIR", "/nix/var/nix")
    # As Nix chooses its store (Nix manual, `store` setting, "auto").
    if os.environ.get("NIX_REMOTE") != "daemon" and os.access(state, os.W_OK):
        return
    command = ["nix", "--extra-experimental-features", "nix-command", "show-config", "--json"]
    # Neither this user's files nor variables are the daemon's.
    system = {name: value for name, value in os.environ.items() if name != "NIX_CONFIG"}
    run = subprocess.run(
        command, env={**system, "NIX_USER_CONF_FILES": ""}, capture_output=True, text=True, check=True
    )
    settings = {name: setting["value"] for name, setting in json.loads(run.stdout).items()}
    user = pwd.getpwuid(os.geteuid())
    groups = (grp.getgrgid(number).gr_name for number in os.getgrouplist(user.pw_name, user.pw_gid))
    if not {"*", user.pw_name, *(f"@{group}" for group in groups)}.isdisjoint(settings["trusted-users"]):
        return
    if settings["sandbox"] is not True or settings["sandbox-fallback"] is not False:
        raise BuildError(
            "the Nix daemon does not promise the sandbox, and would ignore this user's wish for it",
            where="/etc/nix/nix.conf",
            hint="set `sandbox = true` and `sandbox-fallback = false` there, or add this user to `trusted-users`",
        )


def read_layout(layout: Path) -> Image:
    """Describe an OCI image layout."""
    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    (descriptor,) = index["manifests"]
    manifest = json.loads(_blob(layout, descriptor["digest"]).read_text(encoding="utf-8"))
    size = (
        descriptor["size"] + manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"])
    )
    return Image(layout=layout, digest=descriptor["digest"], image_id=manifest["config"]["digest"], size=size)


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


class _Log:
    """Reads Nix's internal log, line by line."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.steps: dict[int, str] = {}
        self.tails: dict[str, deque[str]] = {}
        self.told: dict[str, list[dict[str, Any]]] = {}
        """What programs of steps told us, by step."""
        self.errors: list[str] = []

    def read(self, line: str) -> None:
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
        text = "\n".join(self.errors).strip() or f"nix build ended with status {status}"
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
                hint="make room (`nix-collect-garbage` frees what no root holds) and build again",
            )
        if other := _OTHER_HASH.search(text):
            return OtherHashError(text, other[1], base64.b64decode(other[2]).hex())
        if failed:
            what, where, hint = _words(told or {})
            if what and where:
                return BuildError(what, where=where, hint=hint, step=step, told=told)
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
    remedies = {
        # Debian's kernels have the first; Ubuntu's since 23.10 the second; all the third (namespaces(7)).
        "kernel.unprivileged_userns_clone": ("0", "1"),
        "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
        "user.max_user_namespaces": ("0", "100000"),
    }
    commands = []
    for name, (forbids, allows) in remedies.items():
        try:
            value = settings.joinpath(*name.split(".")).read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if value == forbids:
            commands.append(f"`sysctl -w {name}={allows}` as root")
    hint = " and ".join(commands) or (
        "in a container: start it with --privileged, or in podman with --security-opt seccomp=unconfined --security-opt"
        " unmask=ALL; elsewhere one of the"
        " settings "
        + ", ".join(f"{name}={allows}" for name, (_, allows) in remedies.items())
        + " (sysctl, as root)"
    )
    return BuildError(
        "this machine does not allow user namespaces, without which nothing is built: the sandbox, and programs that"
        " run in the image's own root, need them",
        where=said,
        hint=hint,
    )


def find_engine() -> str | None:
    """The container engine that images are loaded into and run by: `podman`, `docker` with a daemon, or None.

    `TUNGSTEN_ENGINE` chooses where there are both. Raises BuildError where it names another one, or one that is not
    there.
    """
    wanted = os.environ.get("TUNGSTEN_ENGINE", "")
    if wanted not in ("", "podman", "docker"):
        raise BuildError(
            f"{wanted!r} is no engine that we know", where="TUNGSTEN_ENGINE", hint="podman or docker"
        )
    if wanted != "docker" and shutil.which("podman"):
        return "podman"
    if wanted != "podman" and shutil.which("docker"):
        run = subprocess.run(["docker", "info"], capture_output=True, check=False)
        if run.returncode == 0:
            return "docker"
    if wanted:
        raise BuildError(
            f"there is no {wanted}" + (" with a daemon that answers" if wanted == "docker" else ""),
            where="TUNGSTEN_ENGINE",
        )
    return None


def reference(name: str, tag: str, engine: str | None) -> str:
    """What an image is called in an engine. Raises BuildError for a name or tag that no engine takes.

    A name without a registry gets podman's own, `localhost`; docker has none for it. The rules are those of the OCI
    distribution specification.
    """
    if not IMAGE_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise BuildError(
            f"{name!r} is not a name for an image",
            where="-n",
            hint="lower-case letters and digits, with single `.`, `_` or `-` between them, and `/` between parts",
        )
    if not IMAGE_TAG.fullmatch(tag):
        raise BuildError(
            f"{tag!r} is not a tag for an image",
            where="--tag",
            hint="letters, digits, `_`, `.` and `-`, at most 128",
        )
    host = name.partition("/")[0]
    has_registry = "/" in name and (host == "localhost" or "." in host or ":" in host)
    return f"{name}:{tag}" if has_registry or engine != "podman" else f"localhost/{name}:{tag}"


def check_target(reference: str) -> None:
    """Raises BuildError for what is no reference to push to: a name, with a registry's or without, and a tag."""
    name, _, tag = reference.rpartition(":") if ":" in reference.rpartition("/")[2] else (reference, "", "")
    if (
        not IMAGE_NAME.fullmatch(name)
        or len(name) > LONGEST_NAME
        or not (IMAGE_TAG.fullmatch(tag) or name == reference)
    ):
        raise BuildError(
            f"{reference!r} is no reference that an image can be pushed to",
            where="REF",
            hint="such as registry.example:5000/team/blur:1: lower-case letters and digits, with single `.`, `_` or "
            "`-` between them, and `/` between parts; after `:` a tag of letters, digits, `_`, `.` and `-`",
        )


def load(image: Image, engine: str, reference: str) -> None:
    """Load an image into an engine under a reference. Raises BuildError."""
    if engine == "podman":
        # A layout is read blob by blob: what podman has already is not copied again. podman names it after the path
        # that it is given, too, which may be none for an image: a store's folder has one.
        folder, name = image.layout.parent, image.layout.name
        pulled = _engine([engine, "pull", "--quiet", "--", f"oci:{name}"], folder).split()[-1]
        _engine([engine, "tag", "--", pulled, reference])
        subprocess.run(
            [engine, "untag", pulled, f"localhost/{name}:latest"], capture_output=True, check=False
        )
        return
    with subprocess.Popen(["tar", "-C", str(image.layout), "-chf", "-", "."], stdout=subprocess.PIPE) as tar:
        command = [engine, "load", "--quiet"]
        loaded = subprocess.run(command, stdin=tar.stdout, capture_output=True, text=True, check=False)
    if loaded.returncode != 0:
        raise BuildError(f"docker could not load the image: {loaded.stderr.strip()}")
    _engine([engine, "tag", "--", image.image_id, reference])


def check_skopeo() -> None:
    """Raises BuildError where there is no skopeo."""
    if shutil.which("skopeo") is None:
        raise BuildError(
            "there is no skopeo on PATH, which pushes images", hint="on Debian: apt-get install skopeo"
        )


def push(image: Image, reference: str, skopeo_args: Sequence[str]) -> None:
    """Push an image to a registry as it is, so that its digest stays. Raises BuildError."""
    command = [
        "skopeo",
        "copy",
        "--preserve-digests",
        *skopeo_args,
        "--",
        f"oci:{image.layout}",
        f"docker://{reference}",
    ]
    run = subprocess.run(command, env=certificates.environment(), capture_output=True, text=True, check=False)
    if run.returncode != 0:
        handshake = certificates.problem_in(run.stderr)
        raise BuildError(
            f"the image could not be pushed: {handshake or run.stderr.strip()}",
            # Not the command: what skopeo is told besides may be a password.
            where=f"docker://{reference}",
            hint=certificates.hint(handshake)
            if handshake
            else "`skopeo login` gives it a user and a password; --skopeo-arg=--dest-tls-verify=false is for a"
            " registry without TLS",
        )


def _engine(command: list[str], folder: Path | None = None) -> str:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise BuildError(
            f"{command[0]} could not load the image: {run.stderr.strip()}",
            where=" ".join(command),
            hint="the image is built all the same; --no-load leaves it in the Nix store",
        )
    return run.stdout
