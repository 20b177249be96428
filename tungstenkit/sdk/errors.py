"""The errors that users see, all in one shape: what is wrong, where, and what to do about it.

Every part of the product raises these for problems that the user can mend; anything else that escapes is a
defect of ours. A subclass exists only where a caller must tell one kind from another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Self

UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys, and what makes a text look other than it is (Unicode, "Bidirectional Algorithm", 2)."""


class TungstenError(Exception):
    """A problem that the user can mend."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        """State a problem.

        what: the problem, a short sentence without a final full stop.
        where: the file, line, argument or URL that it is about.
        hint: what to do about it.
        """
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """Three lines: the problem, its place and the hint; a missing part leaves its line out.

        All of it is text, whoever has said it: a model's module, a mirror, a lock.
        """
        parts = {"error: ": self.what, "  in:   ": self.where, "  hint: ": self.hint}
        said = "\n".join(
            label + text.replace("\n", "\n" + " " * len(label)) for label, text in parts.items() if text
        )
        return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], said)

    def reworded(self, what: str | None = None, *, where: str | None = None, hint: str | None = None) -> Self:
        """The same problem in other words, to be raised in its place: who has caught this one may still hold it.

        what, where, hint: in place of its own, where they are given.
        """
        words = {"what": what, "where": where, "hint": hint}
        given = {name: text for name, text in words.items() if text is not None}
        other = type(self).__new__(type(self), given.get("what", self.what))
        vars(other).update(vars(self) | given)
        return other

    def with_hint(self, *more: str | None) -> Self:
        """The same problem, with more that may help."""
        hint = self.hint or ""
        for text in filter(None, more):
            # The end of one of several lines is to be pasted.
            separator = "\n" if "\n" in hint else "; "
            hint += (separator if hint else "") + text
        return self.reworded(hint=hint or None)

    def at(self, system: str) -> Self:
        """The same problem as that of one platform among others."""
        return self.reworded(f"on {system}: {self.what}")


class DefinitionError(TungstenError):
    """A model class, or its input or output class, that breaks the contract."""

    def __init__(self, problems: Iterable[str], *, where: str | None = None, hint: str | None = None) -> None:
        """State every problem of one declaration.

        problems: at least one; each a line that names the argument or field.
        where, hint: as in `TungstenError`.
        """
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            what = self.problems[0]
        else:
            what = "\n".join([f"{len(self.problems)} problems:", *(f"- {p}" for p in self.problems)])
        super().__init__(what, where=where, hint=hint)


class SpecError(TungstenError):
    """The model's folder, module or `spec.json` can't be read."""


class LockError(TungstenError):
    """`tungsten.lock` is missing, stale, damaged or of an unknown version."""


class ResolveError(TungstenError):
    """No set of packages satisfies what the model asks for; another Python may have one."""


class NothingFitsError(ResolveError):
    """No set of Python packages satisfies what is asked for, as uv explains."""

    def __init__(
        self, what: str, *, explanation: str = "", where: str | None = None, hint: str | None = None
    ) -> None:
        """State it.

        what, where, hint: as in `TungstenError`. explanation: what uv says, which names the packages at fault.
        """
        super().__init__(what, where=where, hint=hint)
        self.explanation = explanation


class CudaError(ResolveError):
    """There is no such CUDA as a model asks for, or none in its packages: nothing near it would do, either."""


class UnusableError(TungstenError):
    """What a solve reads can't be believed or understood, an index or a source: no other Python would mend that.

    It is no `ResolveError`, so that whatever tries the next choice stops at it.
    """


class FetchError(TungstenError):
    """Bytes that a lock names could not be had, or were not the right ones."""


class GoneError(FetchError):
    """No mirror has a file any more, so that locking again is the way on."""


class ExportError(TungstenError):
    """The export could not be written."""


class BuildError(TungstenError):
    """Nix could not build the image, or the image could not be loaded or pushed."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        step: str = "",
        told: Mapping[str, Any] | None = None,
    ) -> None:
        """State it.

        what, where, hint: as in `TungstenError`. step: the name of the step that failed, where one did.
        told: what the step's program says of its failure to programs (`nix/tools/lib/program.py`, `tell`).
        """
        super().__init__(what, where=where, hint=hint)
        self.step = step
        self.told = told or {}


class RunError(TungstenError):
    """A model's server could not be run here, or a prediction did not succeed."""
