"""`dockerfile_commands`: Dockerfile instructions to the steps that a build takes and what the image's config gets.

Owns the `commands` of `spec.json`. The lines are read by `dockerfile_parse`; the meaning of each instruction is the
Dockerfile reference's. Everything is settled here but for what the image below holds and which files match a pattern:
whoever builds never sees the text of an instruction.
"""

from __future__ import annotations

import io
import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dockerfile_parse import DockerfileParser

from tungstenkit.spec import shell_lines
from tungstenkit.spec.commands import Commands, Copy, Folder, Run, Segment, Source
from tungstenkit.spec.dockerfile_words import Text, WordError, expand, pairs, plain, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_USERS = {"root": (0, 0), "nonroot": (65532, 0), "nobody": (65534, 65534)}
_GROUPS = {"root": 0, "tty": 5, "mail": 8, "staff": 50, "nonroot": 65532, "nogroup": 65534}
_OWN_LABELS = {
    "device",
    "mem_gb",
    "gpu_mem_gb",
    "cuda_version",
    "nvidia_driver_minimum",
    "org.opencontainers.image.title",
}
_REFUSED = {
    "FROM": "the image to build on is named by base_image",
    "CMD": "the model's server is what an image runs; leave it out",
    "ENTRYPOINT": "the model's server is what an image runs; leave it out",
    "HEALTHCHECK": "the server says whether it is well at /healthz and /readyz; leave it out",
    "VOLUME": "the image can be run with a read-only root, and keeps nothing; leave it out",
    "STOPSIGNAL": "the server stops on SIGTERM, and loses no request; leave it out",
    "ONBUILD": "nothing is built on this image; write the instruction without ONBUILD",
    "MAINTAINER": "write LABEL maintainer=… in its place",
}
_DIRECTIVE = re.compile(r"\s*#\s*escape\s*=", re.IGNORECASE)
# A word that begins a here-document, as BuildKit reads it.
_HERE = re.compile(r"(?:^|\s)\d*<<-?(['\"]?)([A-Za-z_][A-Za-z0-9_.-]*)\1(?=\s|$)")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)")
# What has a meaning in an extended regular expression (POSIX); `]` and `}` alone have none, and Nix refuses to have
# them escaped.
_SPECIAL = frozenset(".+*?()[{|^$\\")
# "Automatic platform ARGs in the global scope" of the Dockerfile reference.
_PLATFORM_ARGUMENTS = {
    f"{side}{part}"
    for side in ("BUILD", "TARGET")
    for part in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")
}
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


@dataclass
class Parsed:
    """What was read, and what must be said of it."""

    commands: Commands
    problems: list[str] = field(default_factory=list)
    """Each with its line, and what to write in its place."""
    notices: list[str] = field(default_factory=list)


def parse(lines: Sequence[str]) -> Parsed:
    """Read `dockerfile_commands`: the entries of the list are parts of one text, each of any number of lines."""
    reader = _Reader()
    for where, name, value in _instructions(lines, reader.problems):
        reader.read(where, name, value)
    return reader.done()


def _instructions(entries: Sequence[str], problems: list[str]) -> Iterator[tuple[str, str, str]]:
    """Each instruction with its line and its name in capitals."""
    places = [
        (f"dockerfile_commands[{index}], line {number + 1}", line)
        for index, entry in enumerate(entries)
        for number, line in enumerate(entry.rstrip("\n").split("\n"))
    ]
    lines = [line for _, line in places]
    continues = False
    for number, line in enumerate(lines):
        if _DIRECTIVE.match(line):
            problems.append(f"{places[number][0]}: the escape character is `\\`; leave the directive out")
            lines[number] = "#"
        elif continues and not line.strip():
            # It ends nothing in a Dockerfile, and would here.
            lines[number] = "#"
        elif not line.lstrip().startswith("#"):
            continues = line.rstrip().endswith("\\")
    text = "\n".join(lines) + "\n"
    read = DockerfileParser(fileobj=io.BytesIO(text.encode()), env_replace=False).structure
    covered: set[int] = set()
    end_of_document = ""
    for one in read:
        span = range(one["startline"], one["endline"] + 1)
        covered.update(span)
        if one["instruction"] == "COMMENT":
            continue
        if end_of_document:
            end_of_document = "" if one["content"].strip() == end_of_document else end_of_document
            continue
        where = places[span[0]][0]
        if (match := _HERE.search(one["value"])) and one["instruction"] in ("RUN", "COPY", "ADD"):
            problems.append(
                f"{where}: here-documents (<<{match[2]}) can't be read; join the lines of a RUN by `&& \\`, and put a "
                "file beside the model and COPY it"
            )
            end_of_document = match[2]
            continue
        yield where, one["instruction"], one["value"].strip()
    for number, line in enumerate(lines):
        word = line.strip()
        if end_of_document or not word or number in covered:
            continue
        if word.endswith("\\"):
            problems.append(f"{places[number][0]}: the line goes on by its `\\`, and nothing follows")
            return
        problems.append(f"{places[number][0]}: {word} says nothing; write what it is to do, or leave it out")


class _Reader:
    """The state that one instruction leaves to the next."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notices: list[str] = []
        self._environment: dict[str, Text] = {}
        self._arguments: dict[str, Text] = {}
        self._labels: dict[str, str] = {}
        self._ports: list[str] = []
        self._packages: list[str] = []
        self._segments: list[Segment] = []
        self._shell = ["/bin/sh", "-c"]
        self._cwd = "/"
        self._user: tuple[int, int] | None = None
        self._where = ""
        self._instructions: dict[str, Callable[[str], None]] = {
            "ADD": lambda value: self._copy("add", value),
            "ARG": self._arg,
            "COPY": lambda value: self._copy("copy", value),
            "ENV": self._env,
            "EXPOSE": self._expose,
            "LABEL": self._label,
            "RUN": self._run,
            "SHELL": self._set_shell,
            "USER": self._set_user,
            "WORKDIR": self._workdir,
        }

    def read(self, where: str, name: str, value: str) -> None:
        """Take one instruction."""
        self._where = where
        if name in _REFUSED:
            self._problem(f"{name}: {_REFUSED[name]}")
        elif name not in self._instructions:
            self._problem(f"{name} is no instruction; there are {', '.join(self._instructions)}")
        elif not value:
            self._problem(f"{name} says nothing; write what it is to do, or leave it out")
        else:
            try:
                self._instructions[name](value)
            except WordError as error:
                self._problem(f"{name}: {error}")

    def done(self) -> Parsed:
        """Everything that was read."""
        return Parsed(
            Commands(
                segments=tuple(self._segments),
                packages=tuple(dict.fromkeys(self._packages)),
                environment=self._environment,
                labels=self._labels,
                ports=tuple(dict.fromkeys(self._ports)),
                user=f"{self._user[0]}:{self._user[1]}" if self._user else None,
            ),
            self.problems,
            self.notices,
        )

    def _problem(self, what: str) -> None:
        self.problems.append(f"{self._where}: {what}")

    def _notice(self, what: str) -> None:
        self.notices.append(f"{self._where}: {what}")

    @property
    def _scope(self) -> dict[str, Text]:
        # ENV always wins over an ARG of its name.
        return self._arguments | self._environment

    def _plain(self, word: str) -> str:
        return plain(expand(word, self._scope))

    def _add(self, step: Run | Copy | Folder, *, network: bool = False) -> None:
        owner = (self._user or (0, 0)) if isinstance(step, Run) else None
        last = self._segments[-1] if self._segments else None
        fits = last and not network and not last.network
        if fits and last and owner not in (None, (last.uid, last.gid)):
            # What a segment's programs make has one owner; one without programs takes any.
            fits = not any(isinstance(one, Run) for one in last.steps)
        if fits and last:
            uid, gid = owner or (last.uid, last.gid)
            self._segments[-1] = Segment(network=False, uid=uid, gid=gid, steps=(*last.steps, step))
        else:
            uid, gid = owner or (0, 0)
            self._segments.append(Segment(network=network, uid=uid, gid=gid, steps=(step,)))

    # Instructions.

    def _run(self, value: str) -> None:
        network, command = self._run_flags(value)
        listed = _json_list(command)
        argv = listed or [*self._shell, command]
        found = [("", listed)] if listed else shell_lines.commands(command)
        if found is not None:
            if (apt := shell_lines.apt_line(found)) is not None:
                self._install(apt)
                return
            for problem in shell_lines.problems(found):
                self._problem(f"RUN {problem}")
            if any(_is_pip_install(words) for _, words in found):
                self._notice(
                    "RUN pip install needs a pip of the image's, and locks nothing; "
                    "python_packages is the place for packages"
                )
        self._add(
            Run(
                where=self._where,
                text=f"RUN {' '.join(value.split())}",
                argv=tuple(argv),
                cwd=self._cwd,
                environment=self._scope,
            ),
            network=network,
        )

    def _run_flags(self, value: str) -> tuple[bool, str]:
        flags, command = _flags(value)
        network = False
        for name, argument in flags:
            if name == "network" and argument in ("default", "none"):
                network = argument == "default"
            elif name == "network":
                raise WordError(f"--network={argument} is not known here; there are default and none")
            elif name == "mount":
                raise WordError("--mount is not known here; COPY the files, and leave caches to the build")
            else:
                raise WordError(f"--{name} is not known here; leave it out")
        if not command:
            raise WordError("says nothing; write what it is to do, or leave it out")
        return network, command

    def _install(self, apt: shell_lines.Apt) -> None:
        for problem in apt.problems:
            self._problem(f"RUN {problem}")
        if not apt.packages and not apt.problems:
            self._notice("apt's lists are not in an image; the line is left out")
        elif apt.recommends:
            self._notice("recommended packages are not installed; name those that the image shall have")
        self._packages += apt.packages

    def _copy(self, kind: Literal["copy", "add"], value: str) -> None:
        flags, rest = _flags(value)
        uid, gid, mode = 0, 0, None
        for name, argument in flags:
            if name == "chown":
                owner = self._plain(argument)
                # "A UID without GID will use the same numeric UID as the GID", unlike in USER.
                uid, gid = self._owner(f"{owner}:{owner}" if owner.isdigit() else owner)
            elif name == "chmod":
                mode = self._plain(argument)
                if not re.fullmatch(r"0?[0-7]{3}", mode):
                    raise WordError(f"--chmod={mode} is not of three octal digits, such as 644")
            elif name == "from":
                raise WordError(
                    "--from takes from another image, and there is none; put the file beside the model, or "
                    "download it by RUN --network=default"
                )
            elif name != "link":
                raise WordError(f"--{name} is not known here; leave it out")
        paths = _json_list(rest) or rest.split()
        if any(path.startswith('"') for path in paths) and not rest.startswith("["):
            raise WordError(f'a path with spaces stands in a list, as ["a b", "/c/"]: {rest}')
        if len(paths) < 2:
            raise WordError("names no destination; write what to copy, and where to")
        *sources, destination = [self._plain(path) for path in paths]
        for source in sources:
            if re.match(r"[a-z]+://|git@", source):
                raise WordError(
                    f"{source} is not a file beside the model; download it by RUN --network=default"
                )
        folder = "/" if destination.endswith(("/", "/.")) or destination in (".", "..") else ""
        self._add(
            Copy(
                kind=kind,
                where=self._where,
                text=f"{kind.upper()} {value}",
                sources=tuple(_source(source) for source in sources),
                destination=self._absolute(destination).rstrip("/") + (folder or ""),
                uid=uid,
                gid=gid,
                mode=mode,
            )
        )

    def _env(self, value: str) -> None:
        before = self._scope  # One line sees what is set above it.
        for name, word in pairs(value):
            _check_name(name)
            if name == "HOME":
                raise WordError("HOME is /home/nonroot, where what is downloaded is looked for; leave it out")
            self._environment[name] = expand(word, before, holes=True)

    def _arg(self, value: str) -> None:
        for word in words(value):
            name, equals, default = word.partition("=")
            _check_name(name)
            if name in _PLATFORM_ARGUMENTS and not equals:
                raise WordError(f"{name} has no value here; `uname -m` in a RUN tells the processor")
            if equals:
                self._arguments[name] = self._plain(default)
            else:
                self._notice(f"ARG {name} has no default, and nobody gives it a value: it is empty")
                self._arguments[name] = ""

    def _label(self, value: str) -> None:
        for name, word in pairs(value):
            if name in _OWN_LABELS:
                raise WordError(f"{name} says what the model declares; choose another name")
            self._labels[name] = self._plain(word)

    def _expose(self, value: str) -> None:
        for word in value.split():
            text = self._plain(word)
            match = _PORT.fullmatch(text)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not match or not 0 < first <= last <= 65535:
                raise WordError(f"{text!r} is not a port, such as 8080 or 53/udp")
            self._ports += [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]

    def _set_shell(self, value: str) -> None:
        shell = _json_list(value)
        if not shell:
            raise WordError('is written as a list, such as ["/bin/bash", "-c"]')
        self._shell = shell

    def _set_user(self, value: str) -> None:
        self._user = self._owner(self._plain(value))
        self._notice(
            f"USER {value}: the image runs as {self._user[0]}:{self._user[1]}; a RUN runs as root of its own root all "
            "the same, and what it makes is that user's"
        )

    def _workdir(self, value: str) -> None:
        self._cwd = self._absolute(self._plain(value)).rstrip("/") or "/"
        uid, gid = self._user or (0, 0)
        self._add(Folder(where=self._where, text=f"WORKDIR {value}", path=self._cwd, uid=uid, gid=gid))
        self._notice(f"WORKDIR {value} counts for the commands below it; the model runs in /app")

    def _absolute(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self._cwd, path)).replace("//", "/")

    def _owner(self, text: str) -> tuple[int, int]:
        """The numbers of `user[:group]`."""
        user, _, group = text.partition(":")
        if user.isdigit():
            uid, gid = int(user), next((g for u, g in _USERS.values() if u == int(user)), 0)
        elif user in _USERS:
            uid, gid = _USERS[user]
        else:
            raise WordError(f"{user!r} is nobody in the image; there are {', '.join(_USERS)}, and numbers")
        if group.isdigit():
            gid = int(group)
        elif group in _GROUPS:
            gid = _GROUPS[group]
        elif group:
            raise WordError(
                f"{group!r} is no group of the image; there are {', '.join(_GROUPS)}, and numbers"
            )
        return uid, gid


def _flags(value: str) -> tuple[list[tuple[str, str]], str]:
    """The options that stand before all else, and the rest."""
    flags = []
    while match := _FLAG.match(value):
        flags.append((match[1], match[2] or ""))
        value = value[match.end() :]
    return flags, value


def _json_list(value: str) -> list[str] | None:
    """The exec form; None for what is not of that form, which is the shell form.

    Raises WordError for a list in single quotes, which no shell can make sense of.
    """
    if re.match(r"\[\s*'", value):
        raise WordError(f'a list is written in double quotes, as ["a", "b"]: {value}')
    if not value.startswith("["):
        return None
    try:
        found = json.loads(value)
    except ValueError:
        return None
    return found if found and all(isinstance(one, str) for one in found) else None


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise WordError(f"{name!r} is not the name of a variable")


def _is_pip_install(words: list[str]) -> bool:
    return "install" in words and any(re.fullmatch(r"(.*/)?pip[0-9.]*", word) for word in words[:4])


def _source(path: str) -> Source:
    """A path of COPY, relative to the model's folder, whatever slashes or dots it begins with."""
    names = [name for name in posixpath.normpath("/" + path).split("/") if name]
    return Source(path=path, pattern=tuple(_expression(name) for name in names))


def _expression(name: str) -> str:
    """A name with Go's wildcards (filepath.Match) as a regular expression that Nix and Python read alike."""
    parts = []
    place = 0
    while place < len(name):
        letter = name[place]
        place += 1
        if letter == "*":
            parts.append("[^/]*")
        elif letter == "?":
            parts.append("[^/]")
        elif letter == "[" and (end := name.find("]", place + 1)) > 0:
            # Python wants `[` escaped in there; to Nix that is two letters, so it only lets more files in.
            inside = name[place:end].replace("[", r"\[")
            parts.append(f"[{inside}]")
            place = end + 1
        else:
            if letter == "\\" and place < len(name):
                letter = name[place]
                place += 1
            parts.append(f"\\{letter}" if letter in _SPECIAL else letter)
    return "".join(parts)
