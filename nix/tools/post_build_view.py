#!/usr/bin/env python3
"""Make what post_build sees of a model: `post_build_view.py CONFIG.json OUT`.

CONFIG names the `model`'s folder, the `module` and `class`, and `files`: what each file was when the lock was made;
`big`: by path what those are that are not in the folder. OUT becomes a folder with the others, the module without the
bodies of what only a server calls. A file that is another by now is an error: what post_build made of the old one must
not be shipped beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from model_view import describe, module_file, without_serving
from program import ToolError, read_json, run


def make_view(config_path: Path, out: Path) -> None:
    """Make the folder that a configuration describes."""
    config = read_json(config_path)
    model = Path(config["model"])
    module = module_file(model, config["module"])
    stale = []
    out.mkdir()
    for name, recorded in sorted(config["files"].items()):
        source, copy = model / name, out / name
        if name in config["big"]:
            if config["big"][name] != recorded:
                stale.append(name)
            continue
        if not (source.is_symlink() or source.is_file()):
            stale.append(f"{name} is gone")
            continue
        text = None
        if name == module:
            try:
                text = without_serving(source.read_bytes(), config["class"])
            except ValueError as problem:
                raise ToolError(f"{name}: {problem}") from None
        if describe(source, text) != recorded:
            stale.append(name)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
            continue
        copy.write_bytes(source.read_bytes() if text is None else text)
        copy.chmod(0o755 if recorded.endswith(" x") else 0o644)
    if stale:
        raise ToolError(
            f"the lock is stale: post_build saw other files when it was made: {', '.join(stale)};"
            " run `tungsten lock`"
        )


if __name__ == "__main__":
    run(make_view, "CONFIG.json OUT")
