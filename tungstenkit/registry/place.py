"""Where manifests and blobs are: a repository of a registry, or a folder that is an image layout.

Both hold the same, and are asked the same (`base.Place`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit.registry.client import Access, Name
from tungstenkit.registry.layout import LayoutPlace
from tungstenkit.registry.remote import RegistryPlace
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from tungstenkit.registry.base import Place


def place(reference: str, access: Access | None = None, *, may_be_new: bool = False) -> Place:
    """Where a reference leads: a folder with an image layout, or else a registry.

    `oci:FOLDER` and `docker://NAME` say which is meant. access: how a registry is spoken to. may_be_new: whether a
    path may be that of a folder that is not there yet. Raises FetchError for what is no reference.
    """
    if reference.startswith("oci:"):
        return LayoutPlace(Path(reference.removeprefix("oci:")))
    # No registry's name begins so.
    is_new = may_be_new and reference.startswith(("/", "."))
    if is_new or (not reference.startswith("docker://") and Path(reference).is_dir()):
        return LayoutPlace(Path(reference))
    if "/" not in reference:
        # No user may put anything where such a name leads.
        raise FetchError(
            f"no folder is called {reference!a}, and no registry's repository",
            where=reference,
            hint="such as registry.example:5000/team/blur:1, or the folder of an image layout",
        )
    return RegistryPlace(Name.of(reference), access or Access())
