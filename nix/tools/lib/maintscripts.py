"""What a package's maintainer scripts would do: alternatives and diversions.

They are read from the scripts' text. What cannot be read with certainty is an error that names the package, never
a guess; then `scriptrun` may tell the calls.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

from program import ToolError
from rootfs import canonical

# Packages whose diversions change nothing in a fresh root: dash diverts /bin/sh to the link that it ships
# itself.
_HARMLESS_DIVERTERS = {"dash"}
# The diversions of the move to /usr (DEP-17) protect files that a fresh root never has.
_PROTECTIVE = ".usr-is-merged"
_ADDING = {"--add", "--divert", "--package", "--quiet", "--rename"}

_ASSIGNMENT = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=(['\"]?)([A-Za-z0-9_./+:-]*)\2$")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


@dataclass
class Link:
    """One link of an alternative: `link` leads by way of /etc/alternatives/`name` to `path`. Paths are
    canonical, no slash first.
    """

    link: str
    name: str
    path: str


@dataclass
class Alternative:
    """One choice that a package registers, as `update-alternatives --install` has it."""

    master: Link
    priority: int
    slaves: list[Link]
    package: str

    def to_json(self) -> dict[str, object]:
        """The choice as files.json has it."""
        return {
            "master": vars(self.master),
            "priority": self.priority,
            "slaves": [vars(slave) for slave in self.slaves],
            "package": self.package,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Alternative:
        """The inverse of `to_json`."""
        slaves = [Link(**slave) for slave in value["slaves"]]
        return Alternative(Link(**value["master"]), value["priority"], slaves, value["package"])


@dataclass
class Diversion:
    """What other packages ship at `path` is at `to` instead (dpkg-divert(1)). Paths are canonical."""

    path: str
    to: str
    package: str

    @staticmethod
    def from_json(value: dict[str, Any]) -> Diversion:
        """The inverse of `vars`."""
        return Diversion(**value)


def alternatives(postinst: str, package: str) -> list[Alternative]:
    """The choices that a postinst registers, every branch of the script taken.

    A value may use variables that the script sets once, to a literal. `ToolError` if one cannot be read.
    """
    if package in _READ_BY_HAND:
        return _READ_BY_HAND[package](package)
    lines = postinst.replace("\\\n", " ").split("\n")
    constants = _constants(lines)
    found = []
    for line in lines:
        if "update-alternatives" in line and "--install" in line:
            found += [
                _parse(call, package, constants) for call in _calls(line, "update-alternatives", package)
            ]
    return [alternative for alternative in found if alternative is not None]


def check_diversions(scripts: list[str], package: str) -> None:
    """`ToolError` if a preinst or postinst adds a diversion that would move files of a fresh root."""
    if package in _HARMLESS_DIVERTERS:
        return
    for script in scripts:
        for line in script.replace("\\\n", " ").split("\n"):
            if "dpkg-divert" not in line or line.lstrip().startswith("#") or _PROTECTIVE in line:
                continue
            for call in _calls(line, "dpkg-divert", package):
                if not {"--remove", "--list", "--listpackage", "--truename", "--help", "--version"} & set(
                    call
                ):
                    raise ToolError(
                        f"package {package}: its scripts divert files, which is not supported: {line.strip()}"
                    )


def called(calls: list[list[str]], package: str) -> list[Alternative]:
    """The choices that calls of update-alternatives register."""
    found = [_parse(call, package, {}) for call in calls]
    return [alternative for alternative in found if alternative is not None]


def diverted(calls: list[list[str]], package: str) -> list[Diversion]:
    """The diversions that calls of dpkg-divert add, but for those that a fresh root never needs."""
    found = []
    for call in calls:
        if any(_PROTECTIVE in word for word in call):
            continue
        options: dict[str, str] = {"--package": package}
        files, words = [], iter(call)
        for word in words:
            if word in ("--package", "--divert"):
                options[word] = next(words, "")
            elif word.startswith("--"):
                options[word] = ""
            else:
                files.append(word)
        # Without --rename, what is there stays, and what comes later moves: which is which, nobody knows here.
        if len(files) != 1 or "--rename" not in options or not set(options) <= _ADDING:
            raise ToolError(
                f"package {package}: its scripts divert files, which is not supported: dpkg-divert {' '.join(call)}"
            )
        to = options.get("--divert") or f"{files[0]}.distrib"
        found.append(Diversion(canonical(files[0]), canonical(to), options["--package"]))
    return found


def _calls(line: str, command: str, package: str) -> list[list[str]]:
    """The argument lists of the calls of a command in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        words = list(lexer)
    except ValueError as error:
        raise ToolError(
            f"package {package}: cannot read this line of its scripts ({error}): {line.strip()}"
        ) from None
    calls = []
    for place, word in enumerate(words):
        if word.rsplit("/", 1)[-1] == command:
            end = place + 1
            while end < len(words) and not set(words[end]) <= set("();<>|&"):
                end += 1
            calls.append(words[place + 1 : end])
    return calls


def _constants(lines: list[str]) -> dict[str, str]:
    values: dict[str, set[str]] = {}
    for line in lines:
        for word in re.split(r"[;\s]+", line.strip()):
            if "=" in word:
                match = _ASSIGNMENT.match(word)
                values.setdefault(word.split("=", 1)[0], set()).add(match.group(3) if match else "$")
    return {name: value for name, (value, *more) in values.items() if not more and value != "$"}


def _parse(call: list[str], package: str, constants: dict[str, str]) -> Alternative | None:
    words = [
        _VARIABLE.sub(lambda match: constants.get(match[1] or match[2], match[0]), word) for word in call
    ]
    if "--install" not in words:
        return None
    unreadable = [word for word in words if "$" in word or "`" in word or "*" in word]
    if unreadable:
        raise ToolError(
            f"package {package}: cannot tell what its script means by {unreadable[0]!r} in update-alternatives"
        )
    try:
        place = words.index("--install")
        link, name, path, priority = words[place + 1 : place + 5]
        slaves = [
            _link(*words[at + 1 : at + 4])
            for at, word in enumerate(words)
            if word in ("--slave", "--follower")
        ]
        return Alternative(_link(link, name, path), int(priority), slaves, package)
    except (ValueError, TypeError):
        raise ToolError(f"package {package}: cannot read update-alternatives {' '.join(words)}") from None


def _link(link: str, name: str, path: str) -> Link:
    return Link(canonical(link), name, canonical(path))


def _procps(_package: str) -> list[Alternative]:
    return []  # its script acts only on files named *.procps, which it has not shipped for years


def _xz_utils(package: str) -> list[Alternative]:
    slaves = [_link("/usr/bin/unlzma", "unlzma", "/usr/bin/unxz")]
    slaves += [
        _link(f"/usr/bin/lz{util}", f"lz{util}", f"/usr/bin/xz{util}")
        for util in ("cat", "more", "less", "diff", "cmp", "grep", "egrep", "fgrep")
    ]
    manuals = [
        _link(
            f"/usr/share/man/man1/{slave.name}.1.gz",
            f"{slave.name}.1.gz",
            f"/usr/share/man/man1/{slave.path.rsplit('/', 1)[1]}.1.gz",
        )
        for slave in [_link("/usr/bin/lzma", "lzma", "/usr/bin/xz"), *slaves]
    ]
    return [Alternative(_link("/usr/bin/lzma", "lzma", "/usr/bin/xz"), 20, slaves + manuals, package)]


# Scripts that build their arguments in ways that no reader of text can follow, the same in Debian 12 and 13.
_READ_BY_HAND = {"procps": _procps, "xz-utils": _xz_utils}
