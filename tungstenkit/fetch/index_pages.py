"""The Python index's protocol: what a page of an index, or a page or folder of links, lists of a project.

Pages are PEP 691's and PEP 503's, and those that pip's `find-links` names. Nothing is asked here: whoever has read a
page gives its text.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from pydantic_core import from_json

from tungstenkit.digest import sha256_of
from tungstenkit.outside import redact, url_problem
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SHOWN = 100  # letters of a name from outside
_FILES = (".whl", ".tar.gz", ".zip")
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*/[A-Za-z0-9._~%/+!-]*")
JSON_FORMAT = "application/vnd.pypi.simple.v1+json"
FORMATS = f"{JSON_FORMAT}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
"""What an index may answer with, as a request says it."""


class IndexFile(NamedTuple):
    """A file of a project, as an index lists it: a tuple, since a lock reads a hundred thousand of them."""

    name: str
    url: str
    """It may hold credentials, and so is in no repr."""
    sha256: str | None = None
    requires_python: str | None = None
    """PEP 440, as it stands there."""
    yanked: bool = False
    size: int | None = None
    has_metadata: bool = False
    """Whether its metadata lies beside it (PEP 658)."""
    listed_by: str | None = None
    """Which of several places lists it, as a lock names that."""

    def __repr__(self) -> str:
        return f"IndexFile({self.name!r})"


def read_json(content: bytes, url: str, index: str | None) -> list[IndexFile]:
    """The files of a project page (PEP 691). index: how a lock names it."""
    try:
        return [
            IndexFile(
                name=file["filename"],
                url=file["url"],
                sha256=file["hashes"].get("sha256") if "hashes" in file else None,
                requires_python=file.get("requires-python"),
                yanked=bool(file.get("yanked")),
                size=file.get("size"),
                has_metadata=bool(file.get("core-metadata", file.get("dist-info-metadata"))),
                listed_by=index,
            )
            for file in from_json(content, cache_strings="keys")["files"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FetchError("the Python index gave no project page", where=redact(url)) from None


def read_html(text: str, index: str | None) -> list[IndexFile]:
    """The files of a project page (PEP 503), or of any page. index: how a lock names it."""
    parser = _Links()
    parser.feed(text)
    return [
        IndexFile(
            name=unquote(urlsplit(link["href"]).path.rpartition("/")[2]),
            url=link["href"],
            sha256=match[1] if (match := re.search(r"#sha256=([0-9a-f]{64})", link["href"])) else None,
            requires_python=link.get("data-requires-python"),
            yanked="data-yanked" in link,
            has_metadata="data-core-metadata" in link or "data-dist-info-metadata" in link,
            listed_by=index,
        )
        for link in parser.links
    ]


def linked_files(links: Iterable[IndexFile]) -> list[IndexFile]:
    """Those of a page's links that lead to files of projects."""
    return [file for file in links if file.name.endswith(_FILES)]


def files_in(folder: Path, project: str, index: str | None) -> list[IndexFile]:
    """The files of a project in a folder. index: how a lock names it."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and is_of(path.name, project)]
    return [
        IndexFile(path.name, path.as_uri(), sha256_of(path), size=path.stat().st_size, listed_by=index)
        for path in paths
    ]


def normalised(project: str) -> str:
    """A project's name, a pattern of such, or how a file's begins, as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", project).lower()


def is_of(file: str, project: str) -> bool:
    """Whether a wheel or source archive is a project's, by its name."""
    return re.match(re.escape(project) + r"-\d", normalised(file)) is not None


def absolute(file: IndexFile, base: str) -> IndexFile:
    """A page's file with a whole URL; what is on the same host gets the index's credentials. base: the page's own URL.

    Raises FetchError for one that leads elsewhere than to the web: to a file of this machine, or to a program.
    """
    # Most are plain, and an index has thousands.
    if "@" not in base and _PLAIN_URL.fullmatch(file.url):
        return file
    try:
        url = urldefrag(urljoin(base, file.url)).url
    except ValueError:
        url = ""
    if problem := url_problem(url):
        raise FetchError(
            f"the index lists a file whose URL {problem}: {file.name[:_SHOWN]!a}",
            where=redact(base),
            hint="whoever keeps that index has to mend it; TUNGSTEN_MIRROR_PYPI names another",
        )
    index, parts = urlsplit(base), urlsplit(url)
    if "@" in index.netloc and index.netloc.rpartition("@")[2] == parts.netloc:
        url = parts._replace(netloc=index.netloc).geturl()
    return file._replace(url=url)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes)
