"""What the arguments of `define_model` may look like, as far as can be told without a parser; and which files are a
model's where it does not say.

The SDK checks a declaration by these as it is made, and the compiler whatever else names a package or a file.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from tungstenkit.downloads import Download, HuggingFace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEFAULT_INCLUDE_FILES = ("*",)
DEFAULT_EXCLUDE_FILES = (".*/", "__pycache__/", "*.pyc", "*.pyo", "*.pyd", ".*")

# PEP 508 in outline: a name, extras, then version clauses or an address, then a marker.
_CLAUSE = r"(===|~=|==|!=|<=|>=|<|>)\s*[^\s,;()=<>!~][^\s,;()]*"
_REQUIREMENT = re.compile(
    rf"""(?P<name>[A-Z0-9]([A-Z0-9._-]*[A-Z0-9])?) \s*
         (\[[A-Z0-9._,\s-]*\])? \s*
         (@\s*\S+(\s|$) | \(?\s*{_CLAUSE}(\s*,\s*{_CLAUSE})*\s*,?\s*\)?)? \s*
         (;((?!\s--).)*)? (\s+--hash=\S+)*""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)

# Those of pip's options that mean something in a list of packages, and what is a path.
_PIP_OPTION = re.compile(
    r"(-[rcif]|--(requirement|constraint|index-url|extra-index-url|find-links|no-binary|only-binary))[\s=]*[^\s=]"
)
_PIP_OPTIONS = "there are -r, -c, --index-url, --extra-index-url, --find-links, --no-binary and --only-binary"
_LOCAL = re.compile(r"(\.{1,2}/|/|~|file:)\S")
_PASSWORD = re.compile(r"\bhttps?://[^/\s]*@|://[^/\s]*:[^/\s]*@")

# What the SDK and the server are called; an index's package of the first name is another product.
_OWN_NAMES = ("tungstenkit", "tungstenkit-nix", "tungsten-server")


def without_password(entry: str) -> str:
    """A requirement as it may be shown: what stands before a host is left out."""
    return re.sub(r"(?<=://)[^/\s@]*@", "…@", entry)


def requirement_problem(entry: str) -> str | None:
    """What is wrong with a Python requirement, as far as can be told without a parser."""
    if _PASSWORD.search(entry):
        return "holds a user name or password, which would be written down; put it into ~/.netrc"
    match = _REQUIREMENT.fullmatch(entry)
    if match:
        # PEP 503: runs of these are one hyphen, and case does not count.
        if re.sub(r"[-_.]+", "-", match["name"]).lower() in _OWN_NAMES:
            return (
                "must not be asked for: every image has the SDK, and the index's package is another product"
            )
        return None
    if re.match(r"-e\b|--editable\b", entry):
        return "is an editable install, which an image can't hold; write '<name> @ ./<folder>'"
    if entry.startswith("-"):
        return (
            None if _PIP_OPTION.match(entry) else f"is an option of pip that does not count; {_PIP_OPTIONS}"
        )
    if _LOCAL.match(entry):
        return None
    if re.match(r"[A-Za-z+]+://", entry):
        return f"has no name; write '<name> @ {entry}'"
    single = re.fullmatch(r"([\w.-]+(?:\[[^]]*\])?)\s*=\s*([^=].*)", entry)
    if single:
        return f"is not a requirement; did you mean '{single[1]}=={single[2]}'?"
    bare = re.fullmatch(r"([\w.-]+?)[\s-]+v?([0-9][\w.]*)", entry)
    if bare:
        return f"is not a requirement; did you mean '{bare[1]}=={bare[2]}'?"
    return "is not a requirement (PEP 508)"


def system_package_problem(entry: str) -> str | None:
    """What is wrong with the name of a Debian package (Debian policy 5.6.1 and 5.6.12), as apt takes it."""
    name = r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?"
    if re.fullmatch(rf"{name}(=[A-Za-z0-9.+:~-]+)?", entry):
        return None
    if re.search(r"\s", entry):
        return "is more than one word; each package is an entry of its own"
    if re.fullmatch(rf"{name}[=<>~!]=.*", entry):
        return "is not a Debian package; a version follows one '='"
    if re.fullmatch(name, entry.lower()):
        return f"is not a Debian package; did you mean '{entry.lower()}'?"
    return "is not the name of a Debian package"


class Checks:
    """Checks arguments: each method returns the value to keep, and notes what is wrong with the one given."""

    def __init__(self) -> None:
        """Begin without problems."""
        self.problems: list[str] = []

    def batch_size(self, value: object) -> int:
        """A whole number."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.problems.append(f"batch_size: {shown(value)} is not a whole number of at least 1")
            return 1
        return value

    def boolean(self, name: str, value: object) -> bool:
        """True or False."""
        if not isinstance(value, bool):
            self.problems.append(f"{name}: {shown(value)} is neither True nor False")
        return value is True

    def gigabytes(self, name: str, value: object) -> float:
        """An amount of memory."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            self.problems.append(f"{name}: {shown(value)} is not a number of gigabytes above 0")
            return 1
        return value

    def strings(
        self,
        name: str,
        value: object,
        problem: Callable[[str], str | None] = lambda _: None,
        *,
        default: tuple[str, ...] = (),
    ) -> tuple[str, ...]:
        """A list of strings. problem: says what is wrong with one."""
        if value is None:
            return default
        if not isinstance(value, (list, tuple)):
            hint = f"; write [{value!r}]" if isinstance(value, str) else ""
            self.problems.append(f"{name}: {shown(value)} is not a list of strings{hint}")
            return default
        for index, entry in enumerate(value):
            if not isinstance(entry, str):
                self.problems.append(f"{name}[{index}]: {shown(entry)} is not a string")
            elif not entry.strip():
                self.problems.append(f"{name}[{index}]: is empty")
            elif what := problem(entry.strip()):
                self.problems.append(f"{name}[{index}]: {without_password(entry)!r} {what}")
        return tuple(entry for entry in value if isinstance(entry, str))

    def examples(self, value: object) -> tuple[dict[str, Any], ...]:
        """Inputs, which are not looked into."""
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            self.problems.append(f"examples: {shown(value)} is not a list of dicts")
            return ()
        for index, entry in enumerate(value):
            if not isinstance(entry, dict):
                self.problems.append(f"examples[{index}]: {shown(entry)} is not a dict")
        return tuple(entry for entry in value if isinstance(entry, dict))

    def files(self, value: object) -> tuple[Download | HuggingFace, ...]:
        """What is downloaded."""
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            self.problems.append(f"files: {shown(value)} is not a list of Download and HuggingFace")
            return ()
        for index, entry in enumerate(value):
            if isinstance(entry, (Download, HuggingFace)):
                self.problems.extend(f"files[{index}].{problem}" for problem in entry.problems())
            else:
                self.problems.append(
                    f"files[{index}]: {shown(entry)} is neither a Download nor a HuggingFace"
                )
        return tuple(entry for entry in value if isinstance(entry, (Download, HuggingFace)))

    def version(self, name: str, value: object) -> tuple[int, ...] | None:
        """One to three numbers with dots between them."""
        if value is None:
            return None
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){0,2}", value):
            return tuple(int(part) for part in value.split("."))
        hint = f"; write it in quotes: '{value}'" if isinstance(value, (int, float)) else ""
        self.problems.append(f"{name}: {shown(value)} is not a version such as '12.4'{hint}")
        return None

    def cuda_version(self, value: object, *, gpu: object) -> str | None:
        """One of CUDA."""
        if value is not None and gpu is False:
            self.problems.append(f"cuda_version: {shown(value)} has no effect without gpu=True")
        version = self.version("cuda_version", value)
        return None if version is None else ".".join(map(str, version))

    def python_version(self, value: object) -> str | None:
        """One of Python."""
        version = self.version("python_version", value)
        if version is None:
            return None
        if version[0] != 3 or (len(version) > 1 and version[1] < 9):
            self.problems.append(f"python_version: {value!r} is not possible; the oldest is 3.9")
        return ".".join(map(str, version[:2]))

    def base_image(self, value: object) -> str | None:
        """An image's name."""
        if value is None or (isinstance(value, str) and _IMAGE_NAME.fullmatch(value)):
            return value
        self.problems.append(f"base_image: {shown(value)} is not an image name, <repository>[:<tag>]")
        return None


# The grammar of the OCI distribution specification, with the host and the tag or digest around the name.
_IMAGE_NAME = re.compile(
    r"([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


def value_problems(values: Mapping[str, Any], files: Sequence[Download | HuggingFace]) -> list[str]:
    """What is wrong with the arguments of a definition whose class is not here.

    values: by name. Code that is not ours may have written them without any `define_model`.
    """
    checked = Checks()
    checked.batch_size(values["batch_size"])
    checked.boolean("gpu", values["gpu"])
    checked.cuda_version(values["cuda_version"], gpu=values["gpu"])
    checked.gigabytes("gpu_mem_gb", values["gpu_mem_gb"])
    checked.gigabytes("mem_gb", values["mem_gb"])
    checked.python_version(values["python_version"])
    checked.strings("system_packages", values["system_packages"], system_package_problem)
    for name in ("include_files", "exclude_files", "dockerfile_commands"):
        checked.strings(name, values[name])
    checked.base_image(values["base_image"])
    checked.examples(values["examples"])
    checked.files(files)
    return list(dict.fromkeys(checked.problems))


def shown(value: object) -> str:
    """A value in an error, in not too many letters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
