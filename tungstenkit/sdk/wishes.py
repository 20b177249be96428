"""What the arguments of `define_model` may look like, as far as can be told without a parser; and which files are a
model's where it does not say.

The SDK checks a declaration by these as it is made, and the compiler whatever else names a package or a file.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tungstenkit.sdk.downloads import Download, HuggingFace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import TypeAlias

    _C = TypeVar("_C")
    Check: TypeAlias = Callable[[_C, str, Any], Any]
    """Of a `Checks`, a name and the value given: the value to keep."""

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

# What of a line is no name: a path, a URL, a repository.
_DIRECT = re.compile(
    r"((\.{1,2}/|/|~|file:)\S|[A-Za-z+]+://\S|\.{1,2}\[)((?!\s--(?!hash)).)*|\.{1,2}", re.DOTALL
)
_PASSWORD = re.compile(r"\bhttps?://[^/\s]*@|://[^/\s]*:[^/\s]*@")

OWN_NAMES = ("tungstenkit", "tungstenkit-nix", "tungsten-server")
"""What the SDK and the server are called; an index's package of the first name is another product."""
OWN_NAME = "must not be asked for: every image has the SDK, and the index's package is another product"

OPTIONS = {
    "-r": "-r",
    "--requirement": "-r",
    "-c": "-c",
    "--constraint": "-c",
    "-e": "-e",
    "--editable": "-e",
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
}
"""Those of pip's options that mean something in a list of packages, each with its one spelling."""
_OPTIONS = "-r, -c, -e, --index-url, --extra-index-url, --find-links, --no-binary and --only-binary"

_PRE = "would take pre-releases of all packages; write it at the one that you want: 'torch>=2.9.0rc1'"
_BUILD = "is for a build, and no option reaches one; name a wheel that was built so: './dist/foo-1.0-py3-none-any.whl'"
_BUILT_WITH = '`requires = ["torch"]` stands below [tool.tungsten.build.flash-attn] in pyproject.toml'
_VERSIONS = "leave it out, and write a version where one must be held, as in 'torch==2.9.0'"

# Options of pip's and uv's, those that take a value with an equals sign: that change nothing here, and why.
_CHANGE_NOTHING = {
    "--prefer-binary": "the newest release that fits is taken, and its wheel where it has one that fits",
    "--no-cache-dir --no-cache --cache-dir= --refresh --refresh-package= --link-mode=": "an image has no cache",
    "--trusted-host= --allow-insecure-host=": "certificates are checked all the same, and each file by its hash",
    "--require-hashes --no-require-hashes": "the lock has the hash of every file",
    "--keyring-provider=": "passwords come from ~/.netrc or the keyring, where an index asks for one",
    "-U --upgrade --upgrade-strategy= --force-reinstall --reinstall -I --ignore-installed --exists-action=": (
        "an image starts empty, and `tungsten lock --upgrade` takes the newest of everything"
    ),
    "--user --system --break-system-packages --root-user-action= --no-warn-script-location --no-warn-conflicts": (
        "packages are where the image's Python looks"
    ),
    "-q --quiet -v --verbose --debug -y --yes --no-input --no-color --progress-bar= --no-progress --log= --report= "
    "--disable-pip-version-check --no-python-version-warning": "it is about what pip prints and asks",
    "--timeout= --default-timeout= --retries= --resume-retries=": "what does not answer is asked again",
    "--compile --no-compile --compile-bytecode": "byte-code is made with the image",
    "--use-pep517 --use-feature= --use-deprecated= --isolated --no-clean --check-build-dependencies --no-config "
    "--require-virtualenv --no-proxy-env": "it is about how pip works",
}
# Those that would change something and can't be had, each with what to do instead.
_NOT_TO_BE_HAD = {
    "--pre --all-releases= --prerelease=": _PRE,
    "--no-index": "would leave out the index; '--index-url https://…' names one of yours, '--find-links ./dist' files",
    "--no-deps --only-deps --override= --overrides= --excludes=": f"would change what packages need; {_VERSIONS}",
    "--resolution= --exclude-newer= --uploaded-prior-to= --only-final=": f"would choose versions; {_VERSIONS}",
    "-P= --upgrade-package=": "is the lock's: `tungsten lock -P {value}`",
    "--no-build-isolation": f"would show a build what is installed; for what one lacks, {_BUILT_WITH}",
    "--build-constraint= -b= --build-constraints=": f"is for builds; {_BUILT_WITH}, with versions",
    "--global-option= --build-option= --install-option= --config-settings= --config-setting= -C=": _BUILD,
    "--target= -t= --prefix= --root= --src=": "says where to install; leave it out: that is where Python looks",
    "--python-version= --python= -p=": "is an argument of its own: python_version={value!r}",
    "--platform= --python-platform=": "is the lock's: `tungsten lock --platform x86_64-linux`",
    "--abi= --implementation=": "follows from the Python: python_version='3.11'",
    "--ignore-requires-python": "would take what is not for this Python; choose another: python_version='3.11'",
    "--proxy=": "is this machine's: the variable HTTPS_PROXY names a proxy",
    "--cert= --client-cert=": "is this machine's: the variable REQUESTS_CA_BUNDLE names a file of certificates",
    "--group= --requirements-from-script=": "names what only pip reads; write what is listed there, an entry for each",
    "--extra= --all-extras": "is of a project's own; write '<name>[extra]'",
    "--torch-backend=": "follows from the model: gpu=True, and cuda_version='12.4' where it must be that one",
    "--no-build": "is uv's; write '--only-binary :all:'",
    "--index=": "is uv's; write '--extra-index-url {value}'",
    "--default-index=": "is uv's; write '--index-url {value}'",
    "--index-strategy=": "is uv's; a project is taken from the first index alone that knows it: leave it out",
    "--dry-run": "is `tungsten lock --diff`",
}


def _each(table: dict[str, str]) -> dict[str, str]:
    return {name.rstrip("="): what for names, what in table.items() for name in names.split()}


IGNORED = _each(_CHANGE_NOTHING)
"""Options that change nothing here, and why."""
_REFUSED = _each(_NOT_TO_BE_HAD)
_TAKE_A_VALUE = {
    *OPTIONS,
    *(name[:-1] for names in (*_CHANGE_NOTHING, *_NOT_TO_BE_HAD) for name in names.split() if "=" in name),
}
_OPTION = re.compile(r"(--[a-z0-9-]+|-[a-zA-Z])(?:\s*=\s*|\s*)(.*)", re.DOTALL)
_PIP_COMMAND = re.compile(
    r"[!%$]?\s*((python3?|py)\s+-m\s+|uv\s+)?(pip3?\s+install|(uv|poetry|pdm)\s+add)\s+"
)


def without_password(entry: str) -> str:
    """A requirement as it may be shown: what stands before a host is left out."""
    return re.sub(r"(?<=://)[^/\s@]*@", "…@", entry)


def requirement_problem(entry: str) -> str | None:
    """What is wrong with a Python requirement, as far as can be told without a parser."""
    if _PASSWORD.search(entry):
        return "holds a user name or password, which would be written down; put it into ~/.netrc"
    if repository := re.fullmatch(r"(?:git\+)?([\w.-]+@[\w-]+(?:\.[\w-]+)+):([^\s:]+)", entry):
        return f"is no URL; write 'git+ssh://{repository[1]}/{repository[2]}'"
    match = _REQUIREMENT.fullmatch(entry)
    if match:
        # PEP 503: runs of these are one hyphen, and case does not count.
        return OWN_NAME if re.sub(r"[-_.]+", "-", match["name"]).lower() in OWN_NAMES else None
    if entry.startswith("-"):
        try:
            option, value = split_option(entry)
        except ValueError as error:
            return str(error)
        return requirement_problem(value) if option == "-e" else None
    if _DIRECT.fullmatch(entry):
        return None
    # As conda writes it, with the build after the version.
    single = re.fullmatch(r"([\w.-]+(?:\[[^]]*\])?)\s*=\s*([^=\s]+)(=\w+)?", entry)
    if single:
        return f"is not a requirement; did you mean '{single[1]}=={single[2]}'?"
    bare = re.fullmatch(r"([\w.-]+?)[\s-]+v?([0-9][\w.]*)", entry)
    if bare:
        return f"is not a requirement; did you mean '{bare[1]}=={bare[2]}'?"
    return _several_problem(entry) or "is not a requirement (PEP 508)"


def split_option(entry: str) -> tuple[str | None, str]:
    """pip's option in its one spelling and its value; None and the entry where it is a requirement.

    Raises ValueError for an option that is neither of use here nor without any.
    """
    entry = entry.strip()
    if not entry.startswith("-"):
        return None, entry
    match = _OPTION.fullmatch(entry)
    name, value = (match[1], match[2].strip()) if match else (entry, "")
    if name in _REFUSED:
        example = "3.11" if "{value!r}" in _REFUSED[name] else "https://…"
        raise ValueError(_REFUSED[name].format(value=value or example))
    if name not in OPTIONS and name not in IGNORED:
        raise ValueError(f"is an option of pip that does not count here; there are {_OPTIONS}")
    if name in _TAKE_A_VALUE and not value:
        raise ValueError(f"lacks what {name} takes")
    is_one = name not in IGNORED and not re.search(r"\s-(?!-hash)|://\S+\s", value)
    if not is_one and (problem := _several_problem(entry)):
        raise ValueError(problem)
    return OPTIONS.get(name, name), value


def _several_problem(entry: str) -> str | None:
    """What is wrong with a line of pip's that is several entries, or a command: how to write it; None for another."""
    command = _PIP_COMMAND.match(entry)
    words = entry[command.end() if command else 0 :].split()
    entries: list[str] = []
    # A requirement may have spaces in it; what follows it has none.
    first, *rest = re.split(r"\s+(?=-)", entry, maxsplit=1)
    if rest and not command and not first.startswith("-") and requirement_problem(first) is None:
        entries, words = [first], rest[0].split()
    takes = False
    for word in words:
        plain = word.strip("'\"")
        if takes:
            entries[-1] += f" {plain}"
        else:
            entries.append(plain)
        takes = not takes and word in _TAKE_A_VALUE
    if len(entries) < (1 if command else 2):
        return None
    for one in entries:
        if problem := requirement_problem(one):
            # Of an option that is of use; of a word it may be that all is prose.
            return f"has {one!r}, which {problem}" if one.startswith("-") else None
    what = "is a command" if command else "is more than one entry"
    return f"{what}; write {', '.join(map(repr, entries))}"


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

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Begin without problems. given: all arguments, by name."""
        self.problems: list[str] = []
        self.given = given

    def kept(self, checks: Mapping[str, Check[Any]]) -> dict[str, Any]:
        """What to keep of each argument that has a check."""
        return {name: check(self, name, self.given[name]) for name, check in checks.items()}

    def whole_number(self, name: str, value: object) -> int:
        """A whole number."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.problems.append(f"{name}: {shown(value)} is not a whole number of at least 1")
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

    def examples(self, name: str, value: object) -> tuple[dict[str, Any], ...]:
        """Inputs, which are not looked into."""
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            self.problems.append(f"{name}: {shown(value)} is not a list of dicts")
            return ()
        for index, entry in enumerate(value):
            if not isinstance(entry, dict):
                self.problems.append(f"{name}[{index}]: {shown(entry)} is not a dict")
        return tuple(entry for entry in value if isinstance(entry, dict))

    def files(self, name: str, value: object) -> tuple[Download | HuggingFace, ...]:
        """What is downloaded."""
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            self.problems.append(f"{name}: {shown(value)} is not a list of Download and HuggingFace")
            return ()
        for index, entry in enumerate(value):
            if isinstance(entry, (Download, HuggingFace)):
                self.problems.extend(f"{name}[{index}].{problem}" for problem in entry.problems())
            else:
                self.problems.append(
                    f"{name}[{index}]: {shown(entry)} is neither a Download nor a HuggingFace"
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

    def cuda_version(self, name: str, value: object) -> str | None:
        """One of CUDA."""
        if value is not None and self.given["gpu"] is False:
            self.problems.append(f"{name}: {shown(value)} has no effect without gpu=True")
        version = self.version(name, value)
        return None if version is None else ".".join(map(str, version))

    def python_version(self, name: str, value: object) -> str | None:
        """One of Python."""
        version = self.version(name, value)
        if version is None:
            return None
        if version[0] != 3 or (len(version) > 1 and version[1] < 9):
            self.problems.append(f"{name}: {value!r} is not possible; the oldest is 3.9")
        return ".".join(map(str, version[:2]))

    def base_image(self, name: str, value: object) -> str | None:
        """An image's name."""
        if value is None or (isinstance(value, str) and _IMAGE_NAME.fullmatch(value)):
            return value
        self.problems.append(f"{name}: {shown(value)} is not an image name, <repository>[:<tag>]")
        return None


# The grammar of the OCI distribution specification, with the host and the tag or digest around the name.
_IMAGE_NAME = re.compile(
    r"([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


CHECKS: Mapping[str, Check[Checks]] = {
    "batch_size": Checks.whole_number,
    "gpu": Checks.boolean,
    "cuda_version": Checks.cuda_version,
    "gpu_mem_gb": Checks.gigabytes,
    "python_packages": partial(Checks.strings, problem=requirement_problem),
    "python_version": Checks.python_version,
    "system_packages": partial(Checks.strings, problem=system_package_problem),
    "mem_gb": Checks.gigabytes,
    "include_files": partial(Checks.strings, default=DEFAULT_INCLUDE_FILES),
    "exclude_files": partial(Checks.strings, default=DEFAULT_EXCLUDE_FILES),
    "dockerfile_commands": Checks.strings,
    "base_image": Checks.base_image,
    "examples": Checks.examples,
    "files": Checks.files,
}
"""The arguments of `define_model` that are no classes, each with what checks it; `define` has those that are."""


def value_problems(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the arguments of a definition whose class is not here.

    values: by name. Code that is not ours may have written them without any `define_model`. Those of `python_packages`
    are left to whoever has a parser of requirements.
    """
    checked = Checks(values)
    checked.kept({name: check for name, check in CHECKS.items() if name != "python_packages"})
    return list(dict.fromkeys(checked.problems))


def shown(value: object) -> str:
    """A value in an error, in not too many letters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
