"""An image described to others: its bill of materials, where it is from, who says so; and these kept beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tungstenkit.bill.contents import Made
from tungstenkit.bill.referrers import referrers, signature
from tungstenkit.platforms import this_system
from tungstenkit.project.making import make_image
from tungstenkit.registry import elsewhere
from tungstenkit.registry.place import place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tungstenkit.bill.signature import PrivateKey
    from tungstenkit.nix_build.image import Image
    from tungstenkit.project.folder import Project
    from tungstenkit.registry.client import Access


def make_described(project: Project, platform: str | None = None) -> Made:
    """An image, built where there is none, and all that it was made of."""
    return _made(project, *make_image(project, None, "", platform))


def _made(project: Project, system: str, image: Image) -> Made:
    lock = project.checked_lock()
    return Made(project.spec, lock, system, project.select_shipped(lock).contents(project), image)


def keep_described(
    project: Project,
    images: Mapping[str, Image],
    whole: str,
    reference: str,
    access: Access | None = None,
    key: PrivateKey | None = None,
) -> None:
    """Keep beside images that were pushed what is said of each; what is there already is not sent again.

    images: by platform. whole: the digest of what was pushed: of the one image, or of an index of several. reference:
    where that is. key: what signs each, and the index. Raises TungstenError; the images are there all the same.
    """
    signed = ", signed" if key is not None else ""
    with project.watch.working(f"keeping beside it what is in it and where it is from{signed}"):
        where = place(reference, access)
        others = elsewhere.repositories(where)
        for system, image in images.items():
            subject = where.resolve(image.digest)
            said = referrers(_made(project, system, image), subject, this_system(), key)
            for one in said:
                where.attach(one, mount=lambda digest: others.get(digest, ()))
            elsewhere.note(where, [layer.descriptor.digest for one in said for layer in one.layers])
        if key is not None and whole not in {image.digest for image in images.values()}:
            where.attach(signature(where.resolve(whole), project.spec.name, key))
