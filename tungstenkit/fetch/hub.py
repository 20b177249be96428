"""The Hugging Face hub: what a repository holds at a revision, and where a file of it is.

Read by its HTTP API (hub documentation, "Hub API Endpoints"), with the settings of its own client: `HF_ENDPOINT`,
`HF_TOKEN`, and the token that `hf auth login` keeps. A token goes into the header of requests to that endpoint, and
nowhere else.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from tungstenkit.fetch import web
from tungstenkit.outside import LARGEST_FILE, path_problem
from tungstenkit.sdk.errors import FetchError, ResolveError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from tungstenkit.fetch.web import Auth

_MOST_PAGES = 10_000
HOW_TO_BE_LET_IN = (
    "set HF_TOKEN, or run `hf auth login`; for a gated repository accept its terms on its page first. "
    "A repository that does not exist is answered in the same way"
)


@dataclass(frozen=True)
class TreeFile:
    """A file of a repository at a commit."""

    path: str
    size: int
    sha256: str | None
    """What the hub states of a large file (LFS); None of a small one."""
    blob: str | None
    """A small file's blob ID in git: SHA-1."""


@dataclass(frozen=True)
class Snapshot:
    """A repository at a commit."""

    commit: str
    restricted: bool
    """Whether the hub gives its files only to some: private, or gated by terms."""


def endpoint() -> str:
    """The hub's address, without a final slash."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def auth_for(url: str) -> Auth | None:
    """What `requests` takes as `auth`: the token for a URL of the hub, nothing for another."""
    return _with_token if url.startswith(f"{endpoint()}/") else None


def _with_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """A request that says who asks. As `auth`, because `requests` would otherwise prefer ~/.netrc; it is dropped on
    redirects to other hosts.
    """
    if token := _token():
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def _token() -> str | None:
    given = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if given is None:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
        path = Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
        try:
            given = path.read_text(encoding="utf-8")
        except OSError:
            return None
    return given.strip() or None


def file_url(kind: str, repository: str, commit: str, path: str) -> str:
    """Where a file of a repository is. kind: `model` or `dataset`."""
    prefix = "" if kind == "model" else f"{kind}s/"
    return f"{endpoint()}/{prefix}{repository}/resolve/{commit}/{quote(path)}"


def look_up(kind: str, repository: str, revision: str) -> Snapshot:
    """What a revision of a repository is now.

    Raises ResolveError where it is not there, FetchError without an answer.
    """
    where = f"{repository} at {revision}"
    answer, _ = _ask(f"{endpoint()}/api/{kind}s/{repository}/revision/{quote(revision, safe='')}", where)
    commit = answer.get("sha") if isinstance(answer, dict) else None
    if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit):
        raise FetchError("the hub does not say which commit this is", where=where)
    return Snapshot(commit, bool(answer.get("private") or answer.get("gated")))


def tree(kind: str, repository: str, commit: str) -> list[TreeFile]:
    """All files of a repository at a commit, sorted by path. Raises as `look_up`."""
    return sorted(_files(kind, repository, commit), key=lambda file: file.path)


def _files(kind: str, repository: str, commit: str) -> Iterator[TreeFile]:
    where = f"{repository} at {commit}"
    url = f"{endpoint()}/api/{kind}s/{repository}/tree/{commit}?recursive=true"
    for _ in range(_MOST_PAGES):
        entries, following = _ask(url, where)
        try:
            found = [_file(entry) for entry in entries if entry["type"] == "file"]
        except (KeyError, TypeError, ValueError) as problem:
            raise FetchError(
                f"the hub's list of files can't be understood: {problem!r}", where=where
            ) from None
        yield from found
        if following is None:
            return
        url = urljoin(url, following)
    raise FetchError("the hub's list of files has no end", where=where)


def _file(entry: dict[str, Any]) -> TreeFile:
    path, large = entry["path"], entry.get("lfs")
    size = int((entry if large is None else large)["size"])
    if path_problem(path) or {"", ".", ".."} & set(path.split("/")) or not 0 <= size <= LARGEST_FILE:
        raise ValueError(path[:100])
    if large is None:
        return TreeFile(path, size, None, str(entry["oid"]))
    sha256 = str(large["oid"]).removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(sha256)
    return TreeFile(path, size, sha256, None)


def _ask(url: str, where: str) -> tuple[Any, str | None]:
    """The JSON behind a URL, and the URL of the next page (RFC 8288)."""
    try:
        answer = web.get(url, auth=auth_for(url), timeout=web.PATIENT)
    except web.WebError as problem:
        raise _refusal(problem, where) from None
    try:
        return answer.json(), answer.links.get("next", {}).get("url")
    except ValueError:
        raise FetchError("the hub answers something that is not JSON", where=url) from None


def _refusal(problem: web.WebError, where: str) -> TungstenError:
    if problem.answer is None:
        return FetchError(
            f"the Hugging Face hub does not answer: {problem.reason}",
            where=endpoint(),
            hint=problem.hint
            if isinstance(problem, web.UntrustedError)
            else "check the network; HF_ENDPOINT names another address of it",
        )
    # Which of several things is not there: the hub says so in a header of its own.
    said = problem.answer.headers.get("X-Error-Message") or problem.reason
    if problem.status in (401, 403):
        return ResolveError(
            f"the hub does not show this repository: {said}", where=where, hint=HOW_TO_BE_LET_IN
        )
    if problem.status == 404:
        return ResolveError(
            f"the hub has no such repository or revision: {said}",
            where=where,
            hint="see the names in files=[HuggingFace(…)]",
        )
    return FetchError(f"the hub answers {said}", where=where, hint="try again in a while")
