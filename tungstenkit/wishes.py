"""What an entry of `python_packages` or `system_packages` may look like, as far as can be told without a parser; and
which files are a model's where it does not say.

The SDK checks a declaration by these as it is made, and the compiler whatever else names a package or a file.
"""

from __future__ import annotations

import re

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
