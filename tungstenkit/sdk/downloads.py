"""`Download` and `HuggingFace`: files that a model needs and that are not beside its code.

They only say what is wanted, and check that it can be meant; `tungsten lock` finds out what it is, and images get it
by hash. Part of the SDK: an image imports it and does nothing with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Download", "HuggingFace"]

_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Download:
    """A file behind a URL.

    url: `https://…` or `http://…`, without a user's name or password.
    sha256: of the file, in hexadecimal. Without it, `tungsten lock` takes what it gets the first time and locks that.
    to: where the file goes, relative to the model's folder; with a final `/`, a folder. By default the URL's last part.
    executable: whether it is a program.
    """

    url: str
    sha256: str | None = None
    to: str | None = None
    executable: bool = False

    @property
    def path(self) -> str:
        """Where the file goes, relative to the model's folder."""
        name = unquote(urlsplit(self.url).path.rpartition("/")[2])
        if self.to is None:
            return name
        return self.to + name if self.to.endswith("/") else self.to

    def problems(self) -> Iterator[str]:
        """What is wrong with it, a line each."""
        given: dict[str, Any] = vars(self)  # by whoever wrote the model, so of any type
        url, sha256, to, executable = given["url"], given["sha256"], given["to"], given["executable"]
        try:
            parts = urlsplit(url) if isinstance(url, str) else None
            is_web = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            is_web = False
        if not is_web:
            yield f"url: {url!r} is not an http:// or https:// URL"
        elif "@" in urlsplit(url).netloc:
            yield "url: holds a user name or password, which would be written down; put it into ~/.netrc"
        if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch("[0-9a-fA-F]{64}", sha256)):
            yield f"sha256: {sha256!r} is not a sha256 in hexadecimal, 64 digits"
        if not isinstance(executable, bool):
            yield f"executable: {executable!r} is neither True nor False"
        if to is not None and not isinstance(to, str):
            yield f"to: {to!r} is not a path"
        elif is_web and (what := _path_problem(self.path)):
            yield f"to: {self.path!r} {what}"

    def as_json(self) -> dict[str, Any]:
        """As `spec.json` has it."""
        sha256 = self.sha256 and self.sha256.lower()
        return {"url": self.url, "sha256": sha256, "to": self.path, "executable": self.executable}


@dataclass(frozen=True)
class HuggingFace:
    """Files of a repository on the Hugging Face hub, as they are at one commit.

    repo: `<owner>/<name>`.
    revision: a branch, a tag or a commit; `tungsten lock` writes down the commit.
    to: a folder, relative to the model's. By default the files go where the hub's own library looks for them, so that
        `from_pretrained("<owner>/<name>")` finds them without a network.
    include, exclude: patterns as in `.gitignore`; by default all files.
    type: `"model"` or `"dataset"`.
    """

    repo: str
    revision: str = "main"
    to: str | None = None
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    type: str = "model"

    def problems(self) -> Iterator[str]:
        """What is wrong with it, a line each."""
        given: dict[str, Any] = vars(self)  # by whoever wrote the model, so of any type
        repo, revision, to = given["repo"], given["revision"], given["to"]
        if not isinstance(repo, str) or not _REPOSITORY.fullmatch(repo) or ".." in repo:
            yield f"repo: {repo!r} is not the name of a repository, '<owner>/<name>'"
        if not isinstance(revision, str) or not re.fullmatch(r"[^\s\\]+", revision):
            yield f"revision: {revision!r} is not a branch, a tag or a commit"
        elif what := _path_problem(revision):
            yield f"revision: {revision!r} {what}"
        if given["type"] not in ("model", "dataset"):
            yield f"type: {given['type']!r} is neither 'model' nor 'dataset'"
        if to is not None and not isinstance(to, str):
            yield f"to: {to!r} is not a path"
        elif to is not None and to not in (".", "./") and (what := _path_problem(to.rstrip("/"))):
            yield f"to: {to!r} {what}"
        for name in ("include", "exclude"):
            patterns = given[name]
            if patterns is not None and not (
                isinstance(patterns, (list, tuple)) and all(isinstance(one, str) for one in patterns)
            ):
                yield f"{name}: {patterns!r} is not a list of strings"

    def as_json(self) -> dict[str, Any]:
        """As `spec.json` has it."""
        to = self.to and self.to.rstrip("/")
        return {
            "repository": self.repo,
            "type": self.type,
            "revision": self.revision,
            "to": to,
            "include": list(self.include or ()),
            "exclude": list(self.exclude or ()),
        }


def _path_problem(path: str) -> str | None:
    """What is wrong with a path below a folder."""
    if not path:
        return "names no file"
    if path.startswith("/"):
        return "is not relative"
    parts = path.split("/")
    if ".." in parts:
        return "leads out of the folder"
    if "" in parts or "." in parts:
        return "has an empty part, or a '.'"
    if re.search(r"[\x00-\x1f\x7f\\]", path):
        return "has a letter that no path should have"
    if any(part.startswith(".wh.") for part in parts):
        # OCI image specification, "Layer Filesystem Changeset".
        return "has a name that begins with .wh., which in an image takes another file away"
    return None
