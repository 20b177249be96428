"""What is preferred where packages leave a choice, as far as it can be said without a search.

Debian policy leaves it open. Here whatever is needed anyway counts first; then a real package before those that only
provide its name, alternatives from left to right, and providers by Priority, then by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tungstenkit.debian.archive import Archive, Request
    from tungstenkit.debian.control import Alternatives


class Walk:
    """Follows dependencies from the requests and chooses as the rules say; it never takes a choice back.

    A choice is made only when nothing else is left to do: what another package needs anyway counts as chosen.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.why: dict[int, tuple[str, Alternatives | None]] = {}
        """What was taken: what for, and for which dependency if it wasn't requested."""
        self._excluded: set[int] = set()
        self._pending: list[tuple[int, Alternatives]] = []

    def run(self, requests: Sequence[Request]) -> None:
        """Take what the requests need; `why` says what that is."""
        asked = {self._archive.name(number) for request in requests for number in request.options}
        for number in sorted(self._archive.kept):
            # It has what it needs.
            if self._archive.name(number) not in asked:
                self.why[number] = "in the base image", None
                self._excluded |= self._archive.excluded_by(number)
        for request in requests:
            # Whether a virtual name is met is known at the end; one provider is no choice.
            if not request.virtual or self._names(request.options) == 1:
                self._take(request.options[0], "requested", None)
        while True:
            self._take_what_is_forced()
            if not self._pending:
                return
            dependent, element = self._pending.pop(0)
            options = self._possible(element)
            chosen = next((o for o in options if self._is_installable(o)), options[0])
            self._take(chosen, f"chosen for {self._archive.name(dependent)}", element)

    def _take(self, number: int, why: str, element: Alternatives | None) -> None:
        if number in self.why:
            return
        self.why[number] = why, element
        self._excluded |= self._archive.excluded_by(number)
        self._pending += ((number, element) for element in self._archive.depends(number))

    def _take_what_is_forced(self) -> None:
        while True:
            pending, self._pending = self._pending, []
            taken = len(self.why)
            for dependent, element in pending:
                if any(o in self.why for o in self._archive.options(element)):
                    continue
                options = self._possible(element)
                if self._names(options) == 1:
                    self._take(options[0], f"needed by {self._archive.name(dependent)}", element)
                elif options:
                    self._pending.append((dependent, element))
                # Without any option there is no solution, or not this way: libsolv will tell.
            if len(self.why) == taken:
                return

    def _possible(self, element: Alternatives) -> list[int]:
        return [o for o in self._archive.options(element) if o not in self._excluded]

    def _is_installable(self, number: int) -> bool:
        return not any(o in self.why for o in self._archive.excluded_by(number)) and all(
            self._possible(element) for element in self._archive.depends(number)
        )

    def _names(self, options: Iterable[int]) -> int:
        return len({self._archive.name(o) for o in options})
