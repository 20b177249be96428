"""Why a request is not accepted: what is wrong with its inputs, and where, as every check says so; or not now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

MAX_PROBLEMS = 100
"""Problems told about one request: enough to mend it, too few to make a large answer of a bad one."""

Location = tuple[Union[str, int], ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong with one part of an input."""

    location: Location
    """Where: the input's index in the list, then field names and list indexes."""
    message: str
    kind: str
    """The schema's keyword that it breaks, or a word of ours; for programs."""


class InputError(ValueError):
    """Inputs that are not valid, with every problem found up to MAX_PROBLEMS."""

    def __init__(self, problems: list[Problem]) -> None:
        """Hold at least one problem."""
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class UnavailableError(Exception):
    """A request that can't be accepted now; its text is for the client."""

    def __init__(self, message: str, retry_after: int) -> None:
        """retry_after: seconds after which trying again makes sense."""
        super().__init__(message)
        self.retry_after = retry_after
