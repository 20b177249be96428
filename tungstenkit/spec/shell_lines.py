"""What a RUN asks a shell to do, as far as it must be known before it runs: whether it only installs Debian packages,
and whether it needs what a build step has not got.

Nothing is run, and no shell is imitated: a line is cut into its commands, and only their first words and options count.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tungstenkit.sdk.wishes import system_package_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Apt", "apt_line", "commands", "problems"]

_SEPARATOR = re.compile(r"[();<>|&\n]+")
# What follows it is a file.
_REDIRECTION = re.compile(r"[<>|&]*[<>][<>|&]*")
# Words that stand before the program.
_BEFORE = re.compile(
    r"[A-Za-z_]\w*=.*|!|\{|if|then|else|elif|while|until|do|exec|env|time|nice|command", re.DOTALL
)
_APT = {"apt", "apt-get"}
_QUIET = re.compile(
    r"-[yqm]+|--yes|--assume-yes|-q=\d|--quiet|--no-install-recommends|--no-install-suggests|--fix-missing"
)
_LISTS = re.compile(r"/var/(lib/apt|cache/apt|cache/debconf|log)(/.*)?|/tmp/\*|/var/tmp/\*")


@dataclass
class Apt:
    """A line that only installs packages, or only tidies up after that."""

    packages: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    recommends: bool = False
    """Whether it would have taken recommended packages, too."""


def commands(text: str) -> list[tuple[str, list[str]]] | None:
    """The commands of a shell's line, each with what stands before it (`&&`, `|`, …; "" before the first).

    None for a line that can't be cut into words.
    """
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[tuple[str, list[str]]] = [("", [])]
    is_file = False
    try:
        for word in lexer:
            if is_file:
                is_file = False
            elif _REDIRECTION.fullmatch(word):
                is_file = True
            elif _SEPARATOR.fullmatch(word):
                found.append((word.strip() or ";", []))
            elif found[-1][1] or not _BEFORE.fullmatch(word):
                found[-1][1].append(word)
    except ValueError:
        return None
    return [one for one in found if one[1]]


def apt_line(found: list[tuple[str, list[str]]]) -> Apt | None:
    """What a line of apt installs; None for a line that has nothing to do with apt."""
    if not any(_is_apt(words) for _, words in found):
        return None
    apt = Apt()
    for before, words in found:
        if before not in ("", "&&", ";") or not (_is_apt(words) or _tidies(words)):
            installs = [shlex.join(one) for _, one in found if _is_apt(one) and "install" in one]
            apart = " && ".join(installs) or "apt-get install"
            apt.problems.append(
                f"apt stands beside {words[0]!r}, but is a wish for packages, and not run; write 'RUN {apart}', and "
                "the rest as a RUN of its own"
            )
            return apt
    for _, words in found:
        if _is_apt(words):
            _read_apt(words, apt)
    return apt


def _is_apt(words: list[str]) -> bool:
    return words[0].removeprefix("/usr/bin/") in _APT


def _tidies(words: list[str]) -> bool:
    if words[0] == "rm":
        return all(word.startswith("-") or _LISTS.fullmatch(word) for word in words[1:])
    return words[0] in ("set", "true")


def _read_apt(words: list[str], apt: Apt) -> None:
    options = [word for word in words[1:] if word.startswith("-")]
    action, *names = [word for word in words[1:] if not word.startswith("-")] or [""]
    if action in ("update", "clean", "autoclean", "autoremove"):
        return
    if action != "install":
        apt.problems.append(
            f"{words[0]} {action}: packages are chosen when the model is locked; name those that the image shall have, "
            "and leave this out"
        )
        return
    for option in options:
        if not _QUIET.fullmatch(option):
            apt.problems.append(f"{words[0]} install: {option} has no meaning here; leave it out")
    for name in names:
        if problem := system_package_problem(name):
            apt.problems.append(f"{words[0]} install: {name!r} {problem}")
    apt.packages += names
    apt.recommends = apt.recommends or "--no-install-recommends" not in options


_USERS = {"useradd", "adduser", "usermod", "userdel", "groupadd", "addgroup", "groupmod"}
_OTHERS = {"su", "sudo", "gosu", "runuser"}
_ROOT = re.compile(r"(root|0)?(:(root|0)?)?")


def problems(found: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    """What commands ask for that no build step has: users other than root."""
    for _, words in found:
        program = words[0].rpartition("/")[2]
        if program in _USERS:
            yield (
                f"{program}: a build has one user, root; the image has nonroot (65532) beside it, and runs as any "
                "number that USER names"
            )
        elif program in _OTHERS:
            yield f"{program}: a build has one user, root, and is root already; leave it out"
        elif program in ("chown", "chgrp"):
            owner = next((word for word in words[1:] if not word.startswith("-")), "")
            if not _ROOT.fullmatch(owner):
                yield (
                    f"{program} {owner}: a build has one user, root; `COPY --chown` and `USER` before a RUN say whose "
                    "files are"
                )
