"""One solve with an index of a test's own."""

from tungstenkit.debian.archive import NOTHING, Pin
from tungstenkit.debian.solve import NOT_FOLLOWED, DebSolver


def resolve(
    index, groups, prefer=None, *, not_followed=NOT_FOLLOWED, where="system_packages", present=NOTHING
):
    """Load the index and solve once. prefer: pins, or versions alone."""
    pins = {name: pin if isinstance(pin, Pin) else Pin(pin) for name, pin in (prefer or {}).items()}
    return DebSolver(index, not_followed).solve(groups, pins, where=where, present=present)
