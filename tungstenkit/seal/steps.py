"""The second step of locking: what only downloading or building something can tell.

`seal` takes a resolved lock and gives one that can be built. What is found out is written only into the lock: the hash
of busybox's tree, where the shared pin no longer stands in the archive, the wheels of what is built from source, the
shared libraries that packages need, and who wins where two of them bring one file. What `dockerfile_commands` and
`post_build` make is added after that, in the root that is complete by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tungstenkit.seal.busybox import add_busybox_tree
from tungstenkit.seal.installed import check_installed
from tungstenkit.seal.libraries import add_libraries
from tungstenkit.seal.source_wheels import build_wheels

if TYPE_CHECKING:
    from tungstenkit.lock.document import Lock
    from tungstenkit.seal.workshop import Workshop


def seal(lock: Lock, workshop: Workshop) -> Lock:
    """The sealed lock, still without what the model's own steps make. Raises what the steps of sealing raise."""
    lock = add_busybox_tree(lock, workshop)
    lock = build_wheels(lock, workshop)
    lock = add_libraries(lock, workshop)
    lock = check_installed(lock, workshop.get, workshop.solver.notice)
    return lock.model_copy(update={"sealed": True})
