"""A container engine of a few lines: it lists, shows, names and removes what a test has put there."""

import json
import sys

PROGRAM = """#!{python} -IS
import json, sys
from pathlib import Path

folder = Path({folder!r})
words = sys.argv[1:]
with (folder / "told").open("a") as told:
    print(*words, file=told)
kind, what = words[:2]
here = json.loads((folder / f"{{kind}}s.json").read_text())
named = words[words.index("--") + 1:] if "--" in words else []

def is_called(one, name):
    names = one.get("RepoTags", ())
    return name.removeprefix("sha256:") == one["Id"] or name in names or f"localhost/{{name}}:latest" in names

if what == "ls":
    print(*(one["Id"] for one in here), sep="\\n")
elif what == "inspect":
    found = [one for one in here if any(is_called(one, name) for name in named)]
    print(json.dumps(found))
    sys.exit(not found)
elif what == "history":
    (one,) = (one for one in here if is_called(one, named[0]))
    print(json.dumps(one["history"]))
elif what == "rm":
    for one in here:
        if is_called(one, named[0]):
            if one.get("in use"):
                sys.exit("it is in use")
            one["RepoTags"] = [name for name in one.get("RepoTags", ()) if name != named[0]]
            one["removed"] = not one["RepoTags"]
    (folder / f"{{kind}}s.json").write_text(json.dumps([one for one in here if not one.get("removed")]))
elif what == "tag":
    for one in here:
        if is_called(one, named[0]):
            one["RepoTags"].append(named[1])
    (folder / f"{{kind}}s.json").write_text(json.dumps(here))
"""


class Engine:
    """It in a folder, as `podman`."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder / "podman").write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
        (folder / "podman").chmod(0o755)
        for kind in ("image", "container"):
            self.put(kind)

    def put(self, kind, *things):
        (self.folder / f"{kind}s.json").write_text(json.dumps(things))

    def names(self):
        """Of each image that is there, by its id."""
        images = json.loads((self.folder / "images.json").read_text())
        return {one["Id"]: one["RepoTags"] for one in images}

    def containers(self):
        return [one["Name"] for one in json.loads((self.folder / "containers.json").read_text())]

    def told(self):
        return (self.folder / "told").read_text().splitlines()


def image(identity, *names, title="blur", layers=(("a", 1000), ("b", 10)), **more):
    """An image of ours, as an engine shows it."""
    return {
        "Id": identity,
        "Digest": f"sha256:{'d' * 64}",
        "RepoTags": list(names),
        "Architecture": "amd64",
        "Size": 300,
        "Config": {
            "Labels": {"mem_gb": "1", "device": "cpu", "org.opencontainers.image.title": title},
            "Entrypoint": ["tini", "--", "python3", "-m", "tungsten_server"],
        },
        "RootFS": {"Layers": [f"sha256:{name}" for name, _ in layers]},
        "history": [{"CreatedBy": name, "size": size} for name, size in reversed(layers)],
    } | more


def container(identity, name, image_id, started_by, *, runs=False):
    """A container of ours, as an engine shows it."""
    return {
        "Id": identity,
        "Name": name,
        "Image": image_id,
        "State": {"Running": runs},
        "Config": {"Labels": {"tungsten.started-by": started_by} if started_by else {}},
    }
