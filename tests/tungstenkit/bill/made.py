"""An image with something of each kind in it, as small as can be, without Nix: a store, a layout, a model's folder."""

import hashlib
import json
from pathlib import Path

from tests.binaries import deb, wheel
from tests.tungstenkit import locks
from tungstenkit import store
from tungstenkit.bill.contents import Made
from tungstenkit.data import OWN_WHEELS
from tungstenkit.digest import measure
from tungstenkit.export.flake import Contents
from tungstenkit.fetch.big_files import BigFile
from tungstenkit.lock.packages import GitCommit
from tungstenkit.lock.parts import (
    BaseImage,
    BaseLayer,
    CommandResult,
    Files,
    LockedDownload,
    LockedRepository,
    PostBuild,
    RepositoryFile,
)
from tungstenkit.nix_build.image import read_layout
from tungstenkit.spec.commands import Commands, Run, Segment
from tungstenkit.spec.files import ModelFile

DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: "
COMMIT = "c" * 40
CACHE = "home/nonroot/.cache/huggingface/hub/models--org--name"
SDK, SERVER = (
    f"{OWN_WHEELS[one]['name'].replace('-', '_')}-{OWN_WHEELS[one]['version']}-py3-none-any.whl"
    for one in ("sdk", "server")
)


class World:
    """What `made` is put together of; a test changes it before."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.store, self.model = folder / "store", folder / "model"
        monkeypatch.setenv("NIX_STORE_DIR", str(self.store))
        for one in (self.store, self.model, folder / "loose", folder / "layers"):
            one.mkdir()
        self.debs = [
            self.deb(
                "liba",
                "1:1.0+x-1",
                {"usr/share/doc/liba/copyright": f"{DEP5}GPL-2+\n".encode()},
                source="a (1:1.0-1)",
                needed_by=("numeric", "base: liba"),
            ),
            self.deb("libb", "2", {"usr/lib/b": b""}, {"usr/share/doc/libb": "liba"}, needed_by=("liba",)),
            self.deb("odd", "3", {"usr/share/doc/odd/copyright": f"{DEP5}odd\n Do it.\n".encode()}),
        ]
        self.wheels = [
            self.wheel("numeric", "1.5", "License-Expression: MIT", needed_by=("python_packages: numeric",)),
            self.wheel("given", "2", "", url="https://files.example/given-2-py3-none-any.whl"),
        ]
        self.sources = [
            self.source("built", "3", git=GitCommit(url="https://git.example/built", commit="d" * 40)),
            self.source("index", "4"),
        ]
        self.server = [
            self.wheel("flask", "9", "License: Ours", needed_by=("the server's environment: flask>=3",))
        ]
        card = b"---\nlicense: apache-2.0\n---\n"
        self.files = Files(
            downloads=(
                LockedDownload(url="https://files.example/w.onnx", size=1, sha256="a" * 64, to="w.onnx"),
            ),
            repositories=(
                LockedRepository(
                    repository="org/name",
                    type="model",
                    revision="main",
                    commit=COMMIT,
                    files=(
                        RepositoryFile(path="README.md", size=len(card), sha256=self.add("README.md", card)),
                        RepositoryFile(path="model.safetensors", size=5, sha256="b" * 64),
                    ),
                ),
            ),
        )
        self.post_build = PostBuild(
            sees="5" * 64, files={"tungsten_model.py": "6" * 64}, size=1, sha256="7" * 64
        )
        self.commands = (CommandResult(sees="8" * 64, size=1, sha256="9" * 64),)
        self.base = None
        (self.model / "tungsten_model.py").write_text("pass\n")
        self.big = [BigFile("weights.pt", 7, "e" * 64, False)]
        self.model_files = [
            ModelFile("link", "link", target="tungsten_model.py"),
            ModelFile("tungsten_model.py", "file"),
            ModelFile("weights.pt", "file"),
        ]
        self.layers = [
            (
                "liba 1",
                [
                    e("usr", "liba", "dir"),
                    e("usr/lib/a", "liba"),
                    e("usr/share/doc/libb", "libb", "link"),
                    e("usr/share/doc/odd/copyright", "odd"),
                ],
            ),
            ("accounts", [e("etc/passwd", "files"), e("lib", "system", "link"), e("etc", "files", "dir")]),
            ("RUN one; RUN two", [e("opt/x", "build steps")]),
            ("RUN net", [e("opt/y", "build steps"), e(".wh.z", "build steps", "whiteout")]),
            (
                "numeric 1.5, given 2",
                [e(f"site/{n}", one.file) for n, one in enumerate(self.wheels)]
                + [e(f"site/b{n}", one.wheel) for n, one in enumerate(self.sources)]
                + [e("site/t", SDK)],
            ),
            (
                "the server's environment",
                [
                    e("opt/tungsten/server/f", self.server[0].file),
                    e("opt/tungsten/server/s", SERVER),
                    e("opt/tungsten/server/pyvenv.cfg", "files"),
                ],
            ),
            (
                "org/name cccccccccccc",
                [
                    e("app/w.onnx", "files", sha256="a" * 64),
                    e(f"{CACHE}/snapshots/{COMMIT}/model.safetensors", "files", sha256="b" * 64),
                    e(f"{CACHE}/refs/main", "files"),
                    e(f"{CACHE}/refs", "files", "dir"),
                ],
            ),
            ("weights.pt", [e("app/weights.pt", "files", sha256="e" * 64)]),
            ("what post_build made", [e("app/made", "what post_build made")]),
            (
                "the model's files",
                [
                    e("app", "tree app", "dir"),
                    e("app/tungsten_model.py", "tree app"),
                    e("app/link", "tree app", "link"),
                    e("opt/tungsten/spec.json", "tree opt/tungsten/spec.json"),
                ],
            ),
        ]

    def add(self, name, content):
        """Put a file into the store; its sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        Path(store.file_path(sha256, store.store_name(name))).write_bytes(content)
        return sha256

    def deb(self, name, version, files, links=(), **fields):
        path = self.folder / "loose" / f"{name}_{version.partition(':')[2] or version}_amd64.deb"
        deb(path, files, dict(links))
        sha256 = self.add(path.name, path.read_bytes())
        return locks.deb(
            name, version, **{"sha256": sha256, "file": f"mirror://debian/pool/main/{path.name}", **fields}
        )

    def wheel(self, project, version, metadata, needed_by=(), **fields):
        path = self.folder / "loose" / f"{project}-{version}-py3-none-any.whl"
        wheel(path, {f"{project}.py": ""}, more=metadata)
        return locks.wheel(
            project, version, needed_by, sha256=self.add(path.name, path.read_bytes()), **fields
        )

    def source(self, project, version, **fields):
        made = self.wheel(project, version, "License: BSD-3-Clause")
        return locks.source(
            project, version, wheel=made.file, wheel_size=1, wheel_sha256=made.sha256, **fields
        )

    def made(self):
        """The image, and all of it."""
        lock = locks.lock(
            *self.debs,
            *self.wheels,
            *self.sources,
            release="bookworm",
            post_build=self.post_build,
            commands=self.commands,
            base_image=self.base,
        )
        environment = lock.server[locks.SYSTEM].model_copy(update={"wheels": tuple(self.server)})
        lock = lock.model_copy(update={"files": self.files, "server": {locks.SYSTEM: environment}})
        run = {"where": "", "argv": ("true",), "cwd": "/", "environment": {}}
        commands = Commands(
            segments=(
                Segment(
                    network=False,
                    uid=0,
                    gid=0,
                    steps=(Run(text="RUN one", **run), Run(text="RUN two", **run)),
                ),
                Segment(network=True, uid=0, gid=0, steps=(Run(text="RUN net", **run),)),
            )
        )
        spec = locks.spec(name="some-model", has_post_build=True).model_copy(update={"commands": commands})
        contents = Contents(self.model, self.model_files, self.big)
        return Made(spec, lock, locks.SYSTEM, contents, read_layout(self.layout()))

    def layout(self):
        """Write it: layers' blobs are links to what their programs have left, as Nix has it."""
        folder = self.folder / "layout"
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        layers, diff_ids = [], []
        for number, (_, entries) in enumerate(self.layers):
            place = self.folder / "layers" / str(number)
            place.mkdir(exist_ok=True)
            (place / "content").write_text(json.dumps(entries))
            (place / "blob").unlink(missing_ok=True)
            # As a base image's layer is.
            (place / "blob").symlink_to(place / "content")
            (place / "files.json").write_text(json.dumps({"entries": entries}))
            size, sha256 = measure(place / "blob")
            (blobs / sha256).unlink(missing_ok=True)
            (blobs / sha256).symlink_to(place / "blob")
            layers.append(
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "size": size,
                    "digest": f"sha256:{sha256}",
                }
            )
            diff_ids.append(f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}")
        config = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-11-29T12:53:14Z",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": label} for label, _ in self.layers],
        }
        config = blob(blobs, config, "application/vnd.oci.image.config.v1+json")
        manifest = blob(
            blobs,
            {"schemaVersion": 2, "config": config, "layers": layers},
            "application/vnd.oci.image.manifest.v1+json",
        )
        (folder / "index.json").write_text(json.dumps({"manifests": [manifest]}))
        return folder


def e(path, package, kind="file", **more):
    """An entry of a layer's record."""
    return {"path": path, "type": kind, "mode": "0644", "uid": 0, "gid": 0, "package": package, **more}


def blob(folder, document, media_type):
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    (folder / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def on_a_base(world):
    """The same on a base image."""
    layer = BaseLayer(digest=f"sha256:{'1' * 64}", diff_id=f"sha256:{'2' * 64}", size=1, media_type="a/b")
    world.base = BaseImage(
        reference="images.example:5000/team/base:1",
        named=f"sha256:{'3' * 64}",
        digest=f"sha256:{'4' * 64}",
        layers=(layer,),
        environment={},
        labels={},
        exposed_ports=(),
        libc="2.36",
        certificates=None,
        python=None,
    )
    world.layers.insert(0, ("base image images.example:5000/team/base:1", [e("bin/sh", "the base image")]))
