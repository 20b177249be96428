"""One solve with an index of a test's own."""

from tungstenkit.debian.archive import NOTHING
from tungstenkit.debian.solve import NOT_FOLLOWED, DebSolver


def resolve(
    index, groups, prefer=None, *, not_followed=NOT_FOLLOWED, where="system_packages", present=NOTHING
):
    """Load the index and solve once."""
    return DebSolver(index, not_followed).solve(groups, prefer or {}, where=where, present=present)
