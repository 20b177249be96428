"""Layers become an image that every engine takes, or an error that says which two of them don't fit together."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.nix.conftest import told, words


@pytest.fixture
def make_image(run_tool, tmp_path):
    """Make a layout of layers."""
    count = iter(range(1000))

    def make(*layers, name="blur", tag="latest", fails=False, **config):
        out = tmp_path / f"layout-{next(count)}"
        config = {
            "layers": [str(layer.path) for layer in layers],
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:01Z",
            "name": name,
            "tag": tag,
            "config": {"Cmd": ["/bin/sh"], "User": "65532:0"},
            "max-layers": 100,
            "annotations": {},
            **config,
        }
        result = run_tool("image.py", config, out)
        if fails:
            assert result.returncode == 1
            assert not out.exists()
            return result.stderr if fails == "all" else words(result.stderr)
        assert result.returncode == 0, result.stderr
        return out, result.stderr

    return make


@pytest.fixture
def file_layer(make_layer):
    """A layer of single files: path=text, or path=(type, values)."""

    def make(created_by, override=False, **entries):
        values = []
        for path, value in entries.items():
            attributes = {"type": "file", "text": value} if isinstance(value, str) else value
            values.append({"path": path.replace("__", "/"), **attributes})
        return make_layer({"kind": "files", "entries": values, "override": override}, created_by=created_by)

    return make


def blob(layout, digest):
    data = (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest.removeprefix("sha256:")
    return data


def test_layout_is_an_oci_image(make_image, file_layer):
    layers = [file_layer("one", a="1"), file_layer("two", b="2")]
    layout, _ = make_image(*layers)
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (descriptor,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert descriptor["annotations"] == {
        "io.containerd.image.name": "localhost/blur:latest",
        "org.opencontainers.image.ref.name": "latest",
    }
    manifest = json.loads(blob(layout, descriptor["digest"]))
    assert descriptor["size"] == len(blob(layout, descriptor["digest"]))
    config = json.loads(blob(layout, manifest["config"]["digest"]))
    assert config["config"] == {"Cmd": ["/bin/sh"], "User": "65532:0"}
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer.facts["diff-id"] for layer in layers]}
    assert [entry["created_by"] for entry in config["history"]] == ["one", "two"]
    assert (config["architecture"], config["os"], config["created"]) == (
        "amd64",
        "linux",
        "1970-01-01T00:00:01Z",
    )
    for described, layer in zip(manifest["layers"], layers, strict=True):
        assert described["size"] == len(blob(layout, described["digest"]))
        assert (layout / "blobs/sha256" / described["digest"][7:]).readlink() == layer.path / "blob"


def test_layout_is_a_docker_archive(make_image, file_layer):
    layout, _ = make_image(file_layer("one", a="1"))
    (image,) = json.loads((layout / "manifest.json").read_text())
    assert image["RepoTags"] == ["localhost/blur:latest"]
    assert all((layout / path).is_file() for path in [image["Config"], *image["Layers"]])
    assert sorted(path.name for path in layout.iterdir()) == [
        "blobs",
        "index.json",
        "manifest.json",
        "oci-layout",
    ]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("blur", "localhost/blur:x"),
        ("me/blur", "localhost/me/blur:x"),
        ("example.org/me/blur", "example.org/me/blur:x"),
    ],
)
def test_names_belong_to_a_registry(make_image, file_layer, name, reference):
    layout, _ = make_image(file_layer("one", a="1"), name=name, tag="x")
    assert json.loads((layout / "manifest.json").read_text())[0]["RepoTags"] == [reference]


def test_the_same_layers_give_the_same_image(make_image, file_layer):
    layers = [file_layer("one", a="1"), file_layer("two", b="2")]
    (first, _), (second, _) = make_image(*layers), make_image(*layers)
    for path in ("index.json", "manifest.json"):
        assert (first / path).read_bytes() == (second / path).read_bytes()


@pytest.fixture
def export(tmp_path):
    """The folder of an export, with what is none of its name."""
    folder = tmp_path / "export"
    texts = {
        "flake.nix": "{ }",
        "model/a/tungsten_model.py": "pass",
        "model/run": "#!/bin/sh",
        "nix/x.nix": "1",
        "sources.json": "{}",
        "files/own.whl": "wheel",
        "result/image": "of nix build",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "model" / "run").chmod(0o744)
    (folder / "model" / "empty").mkdir()
    (folder / "model" / "link").symlink_to("nowhere")
    return folder


def test_an_export_is_one_tar_of_what_is_the_same_wherever_it_was_written(export, run_tool, tmp_path):
    outs = [tmp_path / "export.tar", tmp_path / "again.tar"]
    assert run_tool("pack_export.py", export, outs[0]).returncode == 0
    (export / "sources.json").write_text('{"a": []}')
    (export / "files" / "own.whl").unlink()
    for path in export.rglob("*"):
        os.utime(path, (5, 5), follow_symlinks=False)
    assert run_tool("pack_export.py", export, outs[1], umask=0o077, env={"TZ": "Asia/Tokyo"}).returncode == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    with tarfile.open(outs[0]) as archive:
        assert [(info.name, info.mode, info.type, info.linkname) for info in archive] == [
            ("flake.nix", 0o644, tarfile.REGTYPE, ""),
            ("model/a/tungsten_model.py", 0o644, tarfile.REGTYPE, ""),
            ("model/link", 0o777, tarfile.SYMTYPE, "nowhere"),
            ("model/run", 0o755, tarfile.REGTYPE, ""),
            ("nix/x.nix", 0o644, tarfile.REGTYPE, ""),
        ]
        assert {(info.uid, info.gid, info.mtime) for info in archive.getmembers()} == {(0, 0, 1)}
        assert archive.extractfile("model/run").read() == b"#!/bin/sh"


def test_an_image_names_the_export_that_it_is_made_of(make_image, file_layer, export, run_tool, tmp_path):
    layer = file_layer("one", a="1")
    parts = {name: str(export / name) for name in ("flake.nix", "model", "nix")}
    labels = {"org.opencontainers.image.title": "blur"}
    settings = {"config": {"Labels": labels}, "annotations": labels}
    layout, _ = make_image(layer, export=parts, **settings)
    run_tool("pack_export.py", export, tmp_path / "export.tar")
    named = "sha256:" + hashlib.sha256((tmp_path / "export.tar").read_bytes()).hexdigest()
    (descriptor,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(layout, descriptor["digest"]))
    config = json.loads(blob(layout, manifest["config"]["digest"]))
    assert config["config"]["Labels"] == manifest["annotations"] == labels | {"io.tungstenkit.export": named}
    (export / "model" / "run").chmod(0o644)
    other, _ = make_image(layer, export=parts, **settings)
    assert (other / "index.json").read_text() != (layout / "index.json").read_text()


def test_archive_holds_the_layout_without_links(make_image, file_layer, run_tool, tmp_path):
    layout, _ = make_image(file_layer("one", a="1"), file_layer("two", b="2"))
    outs = [tmp_path / "image.tar", tmp_path / "again.tar"]
    assert run_tool("archive.py", layout, outs[0]).returncode == 0
    (tmp_path / "result").symlink_to(layout)
    by_link = {"layout": str(tmp_path / "result")}
    assert run_tool("archive.py", by_link, outs[1], env={"TZ": "Asia/Tokyo"}).returncode == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    with tarfile.open(outs[0]) as archive:
        members = archive.getmembers()
        assert [info.name for info in members] == sorted(info.name for info in members)
        assert {(info.type, info.mode) for info in members} == {
            (tarfile.DIRTYPE, 0o755),
            (tarfile.REGTYPE, 0o644),
        }
        for info in members:
            if info.isfile():
                assert archive.extractfile(info).read() == (layout / info.name).read_bytes()


def test_archive_streams_the_same_bytes(make_image, file_layer, run_tool, tmp_path):
    layout, _ = make_image(file_layer("one", a="1"))
    run_tool("archive.py", layout, tmp_path / "image.tar")
    streamed = run_tool("archive.py", layout, Path("-"), text=False)
    assert (streamed.returncode, streamed.stdout) == (0, (tmp_path / "image.tar").read_bytes())


def test_a_stream_that_is_cut_is_an_error(make_image, file_layer, run_tool):
    layout, _ = make_image(file_layer("one", a="x" * 1_000_000))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        result = run_tool("archive.py", layout, Path("-"), stdout=closed)
    assert result.returncode == 1
    assert result.stderr.startswith("error: the image is not written whole: ")


def test_archive_of_something_else_is_an_error(run_tool, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run_tool("archive.py", tmp_path / "empty", tmp_path / "out.tar")
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path / 'empty'}: not an image layout\n"


def test_one_path_in_two_layers(make_image, file_layer):
    one, two = file_layer("one", etc__x="1"), file_layer("two", etc__x="2")
    assert make_image(one, two, fails=True) == "/etc/x: in both files and files (layers 'one' and 'two')"
    assert told(make_image(one, two, fails="all")) == [{"kind": "in-both", "path": "/etc/x"}]
    make_image(one, file_layer("three", override=True, etc__x="3"))


def test_replaces_counts_across_layers(make_deb, make_layer, make_image):
    """The package that replaces the other must be in the later layer: a container shows the last file."""
    old = make_layer(make_deb("old", [("x", b"1")]), created_by="old")
    new = make_layer(make_deb("new", [("x", b"2")], replaces="old"), created_by="new")
    make_image(old, new)
    assert (
        make_image(new, old, fails=True) == "/x: the one of new must stay, but layer 'old' comes after 'new'"
    )


def test_equal_files_of_two_wheels_are_one(make_wheel, make_layer, make_image, python):
    """Their byte-code too, though it is compiled in two runs."""
    one, two, three = (
        make_layer(make_wheel(name, {"shared/__init__.py": data}), created_by=name, python=python)
        for name, data in (("one", b""), ("two", b""), ("three", b"3"))
    )
    make_image(one, two)
    assert "shared/__init__.py: in both" in make_image(one, three, fails=True)


def test_a_path_through_a_link_of_another_layer(make_image, file_layer):
    """One file bin/x in a late layer makes /bin a folder, and /bin/sh is gone."""
    link = file_layer("base", data={"type": "link", "target": "srv"})
    through = file_layer("late", data__x="x")
    for layers in ((link, through), (through, link)):
        error = make_image(*layers, fails=True)
        assert error.startswith("/data: a link of files, but a folder of files (layers '")


def test_the_last_word_on_a_folder_must_be_true(make_deb, make_layer, make_image, file_layer):
    """A late layer with something below a private folder would open it, unless the truth is stated again."""
    base = make_layer(make_deb("a", [("var/private", None, 0o700)]), created_by="base")
    late = file_layer("late", var__private__x="x")
    assert make_image(base, late, fails=True) == (
        "/var/private: 0700 0:0 by a, but 0755 0:0 by files in layer 'late'"
    )
    system = {"kind": "system", "alternatives": False, "ld-so-cache": False, "architecture": "amd64"}
    make_image(base, late, make_layer(system, lower=[base.path, late.path]))


def test_a_file_of_the_models_that_hides_an_installed_package_is_named(make_image, make_layer, make_wheel):
    """But for the server's, which the model's process never sees; a folder without `__init__.py` hides none."""
    files = ("hidden.py", "folder/__init__.py", "native.abi3.so", "names/__init__.py", "deep/inner.py")
    wheel = make_wheel("pkg", dict.fromkeys(files, b""))
    server = make_wheel("server", {"served.py": b""})
    place = {
        "prefix": "opt/tungsten/server",
        "site-packages": "opt/tungsten/server/lib/python3.11/site-packages",
    }
    own = ("hidden.py", "folder/__init__.py", "native.py", "served.py", "names/other.py", "inner.py")
    entries = [{"path": f"app/{name}", "type": "file", "text": ""} for name in own]
    own = make_layer({"kind": "files", "entries": entries})
    _, notes = make_image(make_layer(wheel), make_layer({**server, **place}), own)
    hidden = [
        f"{name} hides what pkg-1.0-py3-none-any.whl has installed"
        for name in ("folder/__init__.py", "hidden.py", "native.py")
    ]
    assert notes.splitlines()[:3] == [f"note: {what}" for what in hidden]
    hint = "give it another name, if the package is meant"
    assert told(notes) == [
        {"kind": "note", "what": what, "where": "the model's folder", "hint": hint} for what in hidden
    ]


def test_links_to_nowhere_are_reported(make_image, file_layer):
    _, notes = make_image(
        file_layer("one", a={"type": "link", "target": "/gone"}, b={"type": "link", "target": "/c"}, c="")
    )
    assert notes == "note: /a -> /gone leads nowhere\n"


def test_too_many_layers(make_image, file_layer):
    layers = [file_layer(name, **{name: ""}) for name in "abc"]
    assert (
        make_image(*layers, fails=True, **{"max-layers": 2})
        == "3 layers are more than the 2 that are allowed"
    )


def test_a_missing_layer_is_named(make_image, file_layer, tmp_path):
    error = make_image(layers=[str(tmp_path / "gone")], fails=True)
    assert error == f"{tmp_path / 'gone' / 'layer.json'}: No such file or directory"
