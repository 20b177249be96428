"""What every layer has in common: trees, single files, parents, and bytes that depend on the inputs alone."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

OTHER_PYTHONS = [
    path
    for path in (shutil.which(f"python3.{minor}") for minor in range(9, 15))
    if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0
]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "model.py").write_text("x = 1\n")
    (root / "sub/run.sh").write_text("#!/bin/sh\n")
    (root / "sub/run.sh").chmod(0o700)
    (root / "link").symlink_to("sub/run.sh")
    (root / "folder-link").symlink_to("sub")
    (root / "sub/up").symlink_to("../model.py")
    return root


def test_tree_has_our_modes_and_owners(tree, make_layer):
    layer = make_layer(
        {
            "kind": "tree",
            "path": str(tree),
            "destination": "app",
            "uid": 65532,
            "gid": 0,
            "directory-mode": "0775",
        }
    )
    modes = {
        name: (oct(info.mode), info.uid, info.gid)
        for name, info in layer.members().items()
        if not info.issym()
    }
    assert modes == {
        "app": ("0o775", 65532, 0),
        "app/sub": ("0o775", 65532, 0),
        "app/model.py": ("0o664", 65532, 0),
        "app/sub/run.sh": ("0o775", 65532, 0),
    }
    links = {name: info.linkname for name, info in layer.members().items() if info.issym()}
    assert links == {"app/link": "sub/run.sh", "app/folder-link": "sub", "app/sub/up": "../model.py"}


def test_tree_by_default_is_for_root_alone_to_write(tree, make_layer):
    members = make_layer({"kind": "tree", "path": str(tree), "destination": "opt/x"}).members()
    assert {oct(info.mode) for info in members.values() if not info.issym()} == {"0o755", "0o644"}


def test_tree_may_be_one_file(tree, make_layer):
    layer = make_layer({"kind": "tree", "path": str(tree / "model.py"), "destination": "opt/t/spec.json"})
    assert list(layer.members()) == ["opt", "opt/t", "opt/t/spec.json"]
    assert layer.read("opt/t/spec.json") == b"x = 1\n"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "../sub/../../x"])
def test_a_link_out_of_the_tree_is_an_error(tree, layer_error, target):
    (tree / "sub/bad").symlink_to(target)
    error = layer_error({"kind": "tree", "path": str(tree), "destination": "app"})
    assert str(tree / "sub/bad") in error
    assert target in error


def test_a_socket_or_pipe_is_an_error(tree, layer_error):
    os.mkfifo(tree / "pipe")
    assert str(tree / "pipe") in layer_error({"kind": "tree", "path": str(tree), "destination": "app"})


def test_single_files(make_layer):
    entries = [
        {"path": "etc/passwd", "type": "file", "mode": "0640", "uid": 1, "gid": 2, "text": "rööt\n"},
        {"path": "bin/x", "type": "file", "text": ""},
        {"path": "home/nonroot", "type": "dir", "mode": "0775", "uid": 65532},
        {"path": "bin", "type": "link", "target": "usr/bin"},
    ]
    layer = make_layer({"kind": "files", "entries": entries})
    members = layer.members()
    assert layer.read("etc/passwd").decode() == "rööt\n"
    assert (members["etc/passwd"].mode, members["etc/passwd"].uid, members["etc/passwd"].gid) == (0o640, 1, 2)
    assert (members["home/nonroot"].mode, members["home/nonroot"].uid) == (0o775, 65532)
    assert members["bin"].linkname == "usr/bin"
    assert "usr/bin/x" in members


def test_parents_that_nobody_states_are_implied(make_layer):
    """A layer that made up /tmp or /root as 0755 would change them in the container."""
    paths = ["tmp/a", "var/tmp/a", "root/a", "home/nonroot/a", "app/a", "run/lock/a", "opt/a"]
    layer = make_layer(
        {"kind": "files", "entries": [{"path": path, "type": "file", "text": ""} for path in paths]}
    )
    found = {entry["path"]: entry for entry in layer.files["entries"] if entry["type"] == "dir"}
    assert {path: (entry["mode"], entry["uid"], entry["gid"]) for path, entry in found.items()} == {
        "app": ("0775", 65532, 0),
        "home": ("0755", 0, 0),
        "home/nonroot": ("0775", 65532, 0),
        "opt": ("0755", 0, 0),
        "root": ("0700", 0, 0),
        "run": ("0755", 0, 0),
        "run/lock": ("1777", 0, 0),
        "tmp": ("1777", 0, 0),
        "var": ("0755", 0, 0),
        "var/tmp": ("1777", 0, 0),
    }
    assert all(entry["implied"] for entry in found.values())


def placed(path, to, **fields):
    values = {"base": "app", "uid": 65532, "gid": 0, "directory-mode": "0775"}
    source = {} if path is None else {"path": str(path)}
    return {"kind": "placed", "to": to, **source, **values, **fields}


def test_a_placed_file_has_the_models_owner_and_its_folders_too(make_layer, tmp_path):
    source = tmp_path / "store-name"
    source.write_bytes(b"weights")
    layer = make_layer(
        placed(source, "a/b/w.bin"),
        placed(source, "run", executable=True),
        placed(None, "refs/main", base="home/nonroot", text="commit"),
    )
    found = {entry["path"]: (entry["mode"], entry["uid"], entry["gid"]) for entry in layer.files["entries"]}
    assert found == {
        "app": ("0775", 65532, 0),
        "app/a": ("0775", 65532, 0),
        "app/a/b": ("0775", 65532, 0),
        "app/a/b/w.bin": ("0664", 65532, 0),
        "app/run": ("0775", 65532, 0),
        "home": ("0755", 0, 0),
        "home/nonroot": ("0775", 65532, 0),
        "home/nonroot/refs": ("0775", 65532, 0),
        "home/nonroot/refs/main": ("0664", 65532, 0),
    }


def test_one_file_may_be_placed_twice_and_another_may_not(make_layer, layer_error, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    same = placed(tmp_path / "one", "x", sha256="1" * 64)
    make_layer(same, same)
    assert "/app/x" in layer_error(same, placed(tmp_path / "two", "x", sha256="2" * 64))


def test_a_stored_layer_has_the_same_tar_and_is_not_compressed(make_layer, tmp_path):
    """Also where the file is no whole number of blocks, members or pieces."""
    import gzip

    source = tmp_path / "weights"
    source.write_bytes(bytes(3_000_001))
    stored, plain = make_layer(placed(source, "w", stored=True)), make_layer(placed(source, "w"))
    assert stored.facts["diff-id"] == plain.facts["diff-id"]
    assert gzip.decompress(stored.blob) == gzip.decompress(plain.blob)
    assert len(plain.blob) < 10_000 < 3_000_000 < len(stored.blob) < 3_020_000
    subprocess.run(["gzip", "--test"], input=stored.blob, check=True)


def test_a_name_that_a_container_would_take_for_a_whiteout_is_refused(layer_error, tmp_path):
    (tmp_path / "x").write_text("")
    names = ("a/.wh.x", ".wh..wh..opq", "fine/x.wh.")
    error = layer_error(*(placed(tmp_path / "x", name) for name in names))
    assert error.startswith("/app/.wh..wh..opq (files), /app/a/.wh.x (files): can't be in an image")


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ([placed(None, "/etc/passwd", text="")], "/etc/passwd: is not below /app"),
        ([placed(None, "../etc/passwd", text="")], "'..'"),
        ([{"kind": "odd"}], "'odd'"),
        ([{"kind": "files"}], "no key 'entries'"),
        ([{"kind": "files", "entries": [{"path": "x", "type": "fifo"}]}], "'fifo'"),
        ([{"kind": "tree", "path": "/nowhere", "destination": "app"}], "/nowhere"),
    ],
)
def test_a_wrong_configuration_is_named(layer_error, inputs, what):
    assert what in layer_error(*inputs)


def test_an_output_that_is_there_is_kept(run_tool, tmp_path):
    out = tmp_path / "out"
    out.write_text("precious")
    result = run_tool("layer.py", {"created-by": "x", "python": None, "lower": [], "inputs": []}, out)
    assert result.returncode == 1
    assert out.read_text() == "precious"


def test_layer_json_describes_the_blob(make_layer):
    import gzip
    import hashlib

    layer = make_layer({"kind": "files", "entries": []}, created_by="nothing")
    assert layer.facts == {
        "created-by": "nothing",
        "diff-id": "sha256:" + hashlib.sha256(gzip.decompress(layer.blob)).hexdigest(),
        "digest": "sha256:" + hashlib.sha256(layer.blob).hexdigest(),
        "media-type": "application/vnd.oci.image.layer.v1.tar+gzip",
        "size": len(layer.blob),
    }


@pytest.fixture
def everything(make_deb, make_wheel, tree):
    return [
        make_deb("one", [("bin/x", b"x" * 9000, 0o755), ("usr/lib/python3/a.py", b"a = {'x', 'y', 'z'}\n")]),
        make_deb("two", [("usr/z", b"z"), ("usr/y", ("hard", "usr/z"))]),
        make_wheel(
            "pkg", {f"pkg/m{number}.py": b"def f(a={1, 2, 3}): return {'b', 'c'}\n" for number in range(20)}
        ),
        {"kind": "tree", "path": str(tree), "destination": "app", "directory-mode": "0775"},
        {"kind": "files", "entries": [{"path": "etc/x", "type": "file", "text": "x"}]},
    ]


@pytest.mark.parametrize("runner", [sys.executable, *OTHER_PYTHONS])
def test_the_bytes_depend_on_the_inputs_alone(everything, make_layer, python, tmp_path, runner):
    """Not on the hash seed, umask, time zone, locale, folders, or the Python that runs the program."""
    first = make_layer(*everything, python=python)
    (tmp_path / "elsewhere").mkdir()
    environment = {
        "PYTHONHASHSEED": "4711",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "TMPDIR": str(tmp_path / "elsewhere"),
    }
    umask = os.umask(0o077)
    try:
        second = make_layer(
            *everything,
            python=python,
            runner=runner,
            cwd="/",
            env={**environment, "PATH": os.environ["PATH"]},
        )
    finally:
        os.umask(umask)
    for name in ("blob", "layer.json", "files.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_order_of_wheels_does_not_matter(make_wheel, make_layer, python):
    wheels = [
        make_wheel(name, {f"{name}/__init__.py": b"x = {'a', 'b'}\n"}) for name in ("one", "two", "three")
    ]
    assert make_layer(*wheels, python=python).blob == make_layer(*reversed(wheels), python=python).blob


def test_files_json_is_sorted_and_complete(everything, make_layer):
    layer = make_layer(*everything)
    text = (layer.path / "files.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert [entry["path"] for entry in layer.files["entries"]] == list(layer.members())


def test_byte_code_depends_on_its_own_source_alone(make_wheel, make_layer, python):
    """Whatever is compiled beside it: names that several sources share must not show."""
    sources = {
        f"m{number}.py": f"def shared_{number % 3}(name): return {{name: 'shared'}}\n".encode()
        for number in range(9)
    }
    together = make_layer(make_wheel("all", sources), python=python)
    for name, source in list(sources.items())[::4]:
        alone = make_layer(make_wheel("one", {name: source}), python=python)
        (path,) = (path for path in alone.members() if path.endswith(".pyc"))
        assert alone.read(path) == together.read(path)


def test_a_python_that_does_not_work_is_named(make_wheel, layer_error):
    wheel = make_wheel("pkg", {"pkg/a.py": b"a = 1\n"})
    error = layer_error(wheel, python={"command": ["/bin/false"], "version": "3.11"})
    assert error.startswith("/bin/false: cannot compile Python sources: ")


def step_result(path):
    """As a build step makes it, with a hard link."""
    with tarfile.open(path, "w") as tar:
        for name, kind, mode, target in (
            ("app/made", tarfile.DIRTYPE, 0o775, ""),
            ("app/made/data", tarfile.REGTYPE, 0o660, ""),
            ("app/made/link", tarfile.SYMTYPE, 0o777, "/home/nonroot/x"),
            ("app/made/same", tarfile.LNKTYPE, 0o660, "app/made/data"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname, info.uid = kind, mode, target, 7
            info.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"data") if info.size else None)
    return {"kind": "tar", "path": str(path), "uid": 65532, "gid": 0}


def test_a_steps_result_keeps_modes_and_links(make_layer, tmp_path):
    layer = make_layer(step_result(tmp_path / "result.tar"))
    found = {name: (oct(info.mode), info.uid, info.linkname) for name, info in layer.members().items()}
    assert found == {
        "app": ("0o775", 65532, ""),
        "app/made": ("0o775", 65532, ""),
        "app/made/data": ("0o660", 65532, ""),
        "app/made/link": ("0o777", 65532, "/home/nonroot/x"),
        "app/made/same": ("0o660", 65532, "app/made/data"),
    }
    assert layer.read("app/made/same") == b"data"


def test_what_a_step_has_written_anew_is_left_out_of_the_tree(tree, make_layer):
    item = {"kind": "tree", "path": str(tree), "destination": "app", "except": ["model.py", "sub/up"]}
    assert set(make_layer(item).members()) == {
        "app",
        "app/sub",
        "app/sub/run.sh",
        "app/link",
        "app/folder-link",
    }
