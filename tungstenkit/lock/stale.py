"""When a lock is stale: what it was made from, and whether a model still asks for that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tungstenkit.lock.document import digest_of
from tungstenkit.outside import text_problem
from tungstenkit.sdk.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tungstenkit.lock.document import Lock
    from tungstenkit.spec.document import ModelSpec


def made_from(spec: ModelSpec, package_set: str) -> dict[str, Any]:
    """What a lock is made from: the arguments that are resolved, and nothing else.

    Schemas, descriptions, sizes and file patterns are left out, so that editing them makes no lock stale.
    """
    made: dict[str, Any] = {
        "package-set": package_set,
        "python-packages": list(spec.python_packages),
        "system-packages": list(spec.system_packages),
        "python-version": spec.python_version,
        "gpu": spec.gpu,
        "cuda-version": spec.cuda_version,
        "base-image": spec.base_image,
        "dockerfile-commands": list(spec.dockerfile_commands),
        "has-post-build": spec.has_post_build,
    }
    # Absent where it is empty, so that older locks stay fresh.
    if spec.files:
        made["files"] = [wish.model_dump(mode="json", by_alias=True) for wish in spec.files]
    if spec.lock_file is not None:
        made["lock-file"] = spec.lock_file.model_dump(mode="json", by_alias=True)
    if spec.indexes:
        made["indexes"] = spec.indexes
    if package_set == "nixpkgs":
        return made | ({"nixpkgs": spec.nixpkgs} if spec.nixpkgs else {})
    settings = {"libraries": spec.libraries, "build": spec.build}
    return made | {key: value for key, value in settings.items() if value}


def input_digest(spec: ModelSpec, package_set: str) -> str:
    """The digest of what a lock of a model is made from."""
    return digest_of(made_from(spec, package_set))


def changed_inputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two locks' `inputs`, a line for each argument: `python_packages: +scipy -six`."""
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        argument = key.replace("-", "_")
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            parts = [f"+{_shown(one)}" for one in new if one not in old] + [
                f"-{_shown(one)}" for one in old if one not in new
            ]
            lines.append(f"{argument}: {' '.join(parts) or 'in another order'}")
        else:
            lines.append(f"{argument}: {_shown(old)} -> {_shown(new)}")
    return lines


def _shown(value: object) -> str:
    is_plain = isinstance(value, str) and text_problem(value) is None
    return str(value) if is_plain else json.dumps(value, sort_keys=True)


def check_lock(lock: Lock, spec: ModelSpec, path: Path) -> None:
    """LockError if the lock was made from other arguments, or is not sealed."""
    if lock.input_digest != input_digest(spec, lock.package_set):
        changed = changed_inputs(lock.inputs, made_from(spec, lock.package_set)) if lock.inputs else []
        raise LockError(
            "\n".join(
                [
                    "the lock is stale: the model's packages or versions have changed since it was made",
                    *changed,
                ]
            ),
            where=str(path),
            hint="run `tungsten lock`; pins that still fit are kept",
        )
    if not lock.sealed:
        raise LockError(
            "the lock is not sealed: it was made with --resolve-only",
            where=str(path),
            hint="run `tungsten lock`",
        )
