"""A repository of a registry, as a place."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from tungstenkit.registry import artifact as artifacts
from tungstenkit.registry.artifact import DIGEST, INDEX, MANIFEST, Descriptor
from tungstenkit.registry.base import (
    DOCUMENTS,
    LARGEST_MANIFEST,
    MissingError,
    Place,
    digest_of,
    no_manifest,
    nothing,
    take,
)
from tungstenkit.registry.client import Client, RegistryError, pieces
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import IO

    from tungstenkit.registry.artifact import Layer
    from tungstenkit.registry.client import Access, Name

_MOST_PAGES, _MOST_REFERRERS, _LARGEST_LIST = 1000, 10_000, 1 << 26
"""Of what is about one image; the last in bytes."""
_ATTEMPTS = 3
"""Of a blob that breaks off, and of a list that somebody else writes."""


class RegistryPlace(Place):
    """A repository of a registry."""

    def __init__(self, name: Name, access: Access) -> None:
        self.repository = name
        self.name = str(name)
        self.reference = name.reference
        self._client = Client(name, access)

    def resolve(self, reference: str | None = None) -> Descriptor:
        """As `Place`. A registry's answer is read whole, so that its digest is known and not only said."""
        wanted = reference or self.reference or "latest"
        content = self._document(wanted)
        return self._judged(content, wanted)

    def manifest(self, digest: str) -> bytes:
        """As `Place`."""
        return self._document(digest)

    def _document(self, reference: str) -> bytes:
        url = self._client.url(f"manifests/{reference}")
        try:
            answer = self._client.ask("GET", url, headers={"Accept": ", ".join(DOCUMENTS)})
        except RegistryError as problem:
            raise self._missing(problem, reference) from None
        content = self._client.read(answer, LARGEST_MANIFEST)
        if DIGEST.fullmatch(reference) and digest_of(content) != reference:
            raise FetchError(
                f"the registry answers with another manifest, {digest_of(content)}",
                where=f"{self.name}@{reference}",
                hint="try again; if it stays so, the registry, or something on the way to it, is wrong",
            )
        return content

    def _missing(self, problem: RegistryError, what: str) -> FetchError:
        if problem.status != 404:
            return problem
        colon = "@" if DIGEST.fullmatch(what) else ":"
        return MissingError(
            "the registry does not have this", where=f"{self.name}{colon}{what}", hint=problem.hint
        )

    def _judged(self, content: bytes, reference: str) -> Descriptor:
        try:
            return artifacts.described(content)
        except ValueError:
            raise no_manifest(f"{self.name} {reference}") from None

    def blob(self, digest: str, size: int, to: Path, advance: Callable[[int], None] = nothing) -> None:
        """As `Place`."""
        part = to.with_name(f"{to.name}~")
        once = Once(advance)
        for attempt in range(_ATTEMPTS):
            try:
                self._get(digest, size, part, once)
                break
            except RegistryError as problem:
                if not problem.may_pass or attempt == _ATTEMPTS - 1:
                    raise
        take(part, to, digest, size, f"{self.name}@{digest}")

    def _get(self, digest: str, size: int, part: Path, once: Once) -> None:
        """Write what is lacking of a blob."""
        begun = part.stat().st_size if part.exists() else 0
        if begun >= size:
            begun = 0
        headers = {"Range": f"bytes={begun}-"} if begun else {}
        try:
            answer = self._client.ask("GET", self._client.url(f"blobs/{digest}"), headers=headers)
        except RegistryError as problem:
            raise self._missing(problem, digest) from None
        if answer.status_code != 206:
            begun = 0
        arrived = begun
        once.at(begun)
        with part.open("ab" if begun else "wb") as file:
            for piece in pieces(answer):
                arrived += len(piece)
                # What never ends must not fill the disk.
                if arrived > size:
                    break
                file.write(piece)
                once.at(arrived)

    def has_blob(self, digest: str) -> bool:
        """As `Place`."""
        return self._is_there(f"blobs/{digest}")

    def has_manifest(self, digest: str) -> bool:
        """As `Place`."""
        return self._is_there(f"manifests/{digest}")

    def _is_there(self, path: str) -> bool:
        headers = {"Accept": ", ".join(DOCUMENTS)} if path.startswith("manifests") else {}
        try:
            self._client.ask("HEAD", self._client.url(path), headers=headers).close()
        except RegistryError as problem:
            if problem.status == 404:
                return False
            raise
        return True

    def put_blob(
        self, layer: Layer, advance: Callable[[int], None] = nothing, *, mount: Sequence[str] = ()
    ) -> None:
        """As `Place`."""
        found = layer.descriptor
        for other in mount:
            query = f"blobs/uploads/?mount={found.digest}&from={other}"
            answer = self._client.ask("POST", self._client.url(query))
            if answer.status_code == 201:
                answer.close()
                advance(found.size)
                return
            break  # it has begun an upload in its place
        else:
            answer = self._client.ask("POST", self._client.url("blobs/uploads/"))
        answer.close()
        url = self._client.location(answer)
        url += f"{'&' if '?' in url else '?'}digest={found.digest}"
        once = Once(advance)
        self._client.ask(
            "PUT",
            url,
            headers={"Content-Type": artifacts.OCTETS},
            body=lambda: _Body(layer, once),  # type: ignore[arg-type, return-value]
        ).close()

    def put_manifest(self, content: bytes, media_type: str = MANIFEST, tag: str | None = None) -> Descriptor:
        """As `Place`."""
        self._put(content, media_type, tag)
        found = replace(artifacts.described(content), media_type=media_type)
        subject = artifacts.subject_of(content)
        if subject is not None and not self._knows_subjects:
            self._list_by_tag(subject, found)
        return found

    def _put(self, content: bytes, media_type: str, tag: str | None) -> None:
        url = self._client.url(f"manifests/{tag or digest_of(content)}")
        answer = self._client.ask("PUT", url, headers={"Content-Type": media_type}, body=content)
        answer.close()
        self._knows_subjects = "OCI-Subject" in answer.headers

    def _list_by_tag(self, subject: str, referrer: Descriptor) -> None:
        """Note a referrer where a registry keeps no list of them ("Referrers Tag Schema")."""
        for _ in range(_ATTEMPTS):
            listed = self._listed_by_tag(subject)
            if referrer.digest in {one.digest for one in listed}:
                return
            # Who writes it at the same time has not seen this one: it is looked for again.
            everything = [one.to_json() for one in [*listed, referrer]]
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": everything}
            self._put(artifacts.spelled(index), INDEX, _fallback(subject))

    def _listed_by_tag(self, subject: str) -> list[Descriptor]:
        try:
            return self._manifests(self._document(_fallback(subject)))
        except MissingError:
            return []

    def referrers(self, digest: str, kind: str | None = None) -> list[Descriptor]:
        """As `Place`."""
        found: dict[str, Descriptor] = {}
        for one in (*self._listed_by_route(digest), *self._listed_by_tag(digest)):
            found[one.digest] = one
        return [one for one in found.values() if kind is None or one.artifact_type == kind]

    def _listed_by_route(self, digest: str) -> Iterator[Descriptor]:
        url = self._client.url(f"referrers/{digest}")
        listed = size = 0
        for _ in range(_MOST_PAGES):
            try:
                answer = self._client.ask("GET", url, headers={"Accept": INDEX})
            except RegistryError as problem:
                # It has no such route, or has no list for what it hasn't.
                if problem.status in (400, 404, 405, 501):
                    return
                raise
            content = self._client.read(answer, LARGEST_MANIFEST)
            page = self._manifests(content)
            yield from page
            following = self._client.following(answer)
            if following is None:
                return
            url, listed, size = following, listed + len(page), size + len(content)
            if listed > _MOST_REFERRERS or size > _LARGEST_LIST:
                break
        raise RegistryError(
            "the registry's list of what is about an image does not end",
            where=f"{self.name}@{digest}",
            hint="remove there what nobody needs; else whoever keeps that registry has to set it up otherwise",
        )

    def _manifests(self, content: bytes) -> list[Descriptor]:
        try:
            return artifacts.manifests_of(content)
        except ValueError:
            raise no_manifest(self.name) from None


class Once:
    """Tells of the bytes of a blob, each once, though it may begin again."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._most = 0

    def at(self, position: int) -> None:
        """So many have come by now, or gone."""
        if position > self._most:
            self._advance(position - self._most)
            self._most = position


class _Body:
    """A blob that is sent, as `requests` takes it: with a length, and not read into memory."""

    def __init__(self, layer: Layer, once: Once) -> None:
        source = layer.source
        self._file: IO[bytes] = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        self._size = layer.descriptor.size
        self._once = once

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(1 << 16):
            yield piece

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(min(size, 1 << 16) if size >= 0 else size)
        self._once.at(self._file.tell())
        return piece

    def close(self) -> None:
        self._file.close()


def _fallback(digest: str) -> str:
    """The tag of a manifest's referrers, where a registry does not list them."""
    return digest.replace(":", "-")
