"""Base images: layers taken over as they are, what they offer, and how layers of ours follow them."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile

import pytest

from tests.machine import need

TAR = "application/vnd.oci.image.layer.v1.tar"
MODULES = b"\0".join(f"PyInit_{name}".encode() for name in ("_ctypes", "_socket", "_ssl", "zlib")) + b"\0"
STDLIB = ("os.py", "asyncio/base_events.py", "http/client.py", "multiprocessing/context.py")


def tar(*members):
    """(path, content) is a file where content is bytes, a link where it is a str; more are fields of its TarInfo."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content, *fields in members:
            info = tarfile.TarInfo(path)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            elif content is None:
                info.type = tarfile.DIRTYPE
                info.mode = 0o755
            else:
                info.size = len(content)
            for name, value in dict(*fields).items():
                setattr(info, name, value)
            archive.addfile(info, io.BytesIO(content or b"") if info.isreg() else None)
    return data.getvalue()


@pytest.fixture
def import_layer(run_tool, tmp_path):
    """Take over a layer; its folder, or the message where that fails."""
    count = iter(range(1000))

    def run(data, media_type=f"{TAR}+gzip", diff_id=None, packed=None, **more):
        number = next(count)
        blob = tmp_path / f"blob-{number}"
        blob.write_bytes(packed or (gzip.compress(data, mtime=0) if media_type.endswith("gzip") else data))
        config = {
            "blob": blob,
            "created-by": "base image b",
            "diff-id": diff_id or f"sha256:{hashlib.sha256(data).hexdigest()}",
            "digest": f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}",
            "media-type": media_type,
            "size": blob.stat().st_size,
            **more,
        }
        out = tmp_path / f"base-{number}"
        done = run_tool("import_layer.py", config, out)
        return out if done.returncode == 0 else done.stderr

    return run


@pytest.fixture
def facts(run_tool, import_layer, tmp_path):
    def ask(*layers, path="", library_path=""):
        folders = [import_layer(layer) for layer in layers]
        config = {"layers": folders, "path": path, "library-path": library_path}
        done = run_tool("base_facts.py", config, tmp_path / "facts.json")
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "facts.json").read_text())

    return ask


@pytest.fixture
def on_base(run_tool, import_layer, tmp_path):
    """A layer of inputs on base layers: by path its members and their content."""

    def make(base, *inputs):
        folders = [import_layer(layer) for layer in base]
        config = {"created-by": "x", "python": None, "lower": [], "base": folders, "inputs": list(inputs)}
        done = run_tool("layer.py", config, tmp_path / "layer")
        assert done.returncode == 0, done.stderr
        with tarfile.open(tmp_path / "layer" / "blob") as archive:
            return {
                info.name: (info, archive.extractfile(info).read() if info.isreg() else None)
                for info in archive.getmembers()
            }

    return make


def files(*entries):
    return {"kind": "files", "override": True, "entries": list(entries)}


def text(path, content=""):
    return {"path": path, "type": "file", "text": content}


def test_a_layers_blob_is_the_given_one_and_its_entries_are_what_a_container_shows(import_layer):
    data = tar(
        ("./etc", None, {"mode": 0o1777, "uid": 5, "gid": 6}),
        ("etc/file", b"x", {"mode": 0o4755, "pax_headers": {"SCHILY.xattr.user.a": "b"}}),
        ("etc/same", b"", {"type": tarfile.LNKTYPE, "linkname": "etc/file"}),
        ("dev/null", b"", {"type": tarfile.CHRTYPE}),
        ("gone/.wh.x", b""),
        ("gone/.wh..wh..opq", b""),
        (".wh..wh.plnk", b""),
    )
    out = import_layer(data, "application/vnd.docker.image.rootfs.diff.tar.gzip")
    entries = {one["path"]: one for one in json.loads((out / "files.json").read_text())["entries"]}
    assert gzip.decompress((out / "blob").read_bytes()) == data
    assert json.loads((out / "layer.json").read_text())["media-type"] == f"{TAR}+gzip"
    assert {path: one["type"] for path, one in entries.items()} == {
        "etc": "dir",
        "etc/file": "file",
        "etc/same": "file",
        "dev/null": "file",
        "gone/.wh.x": "whiteout",
        "gone/.wh..wh..opq": "whiteout",
    }
    assert (entries["etc"]["mode"], entries["etc"]["uid"], entries["etc/file"]["mode"]) == ("1777", 5, "4755")


def test_a_layer_that_is_not_compressed_is_taken_over_so(import_layer):
    out = import_layer(tar(("a", b"x")), TAR)
    assert json.loads((out / "layer.json").read_text())["media-type"] == TAR


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (tar(("a", b"")), {"diff_id": f"sha256:{'0' * 64}"}, "and the image says sha256:000"),
        (b"no archive at all" * 40, {}, "the layer can't be read"),
        (tar(("a/../../b", b"")), {}, "'..'"),
        (tar(("a", b"")), {"media_type": f"{TAR}+lz4"}, "of type"),
    ],
)
def test_what_is_no_layer_is_refused_by_its_digest(import_layer, data, options, message):
    said = import_layer(data, **options)
    assert "error: sha256:" in said
    assert message in said


@pytest.fixture
def zstd():
    """The program, and a function that compresses by it."""
    need("zstd")
    program = shutil.which("zstd")

    def compress(data, *options):
        return subprocess.run([program, "-c", *options], input=data, capture_output=True, check=True).stdout

    return program, compress


@pytest.mark.parametrize("by", ["program", "library"])
@pytest.mark.parametrize("options", [(), ("--long=31", "-19"), ("--no-check",)])
@pytest.mark.parametrize("first", [b"", b"\x5f\x2a\x4d\x18\x02\0\0\0xy"], ids=["plain", "skipped"])
def test_a_zstd_layer_is_taken_over_as_it_is_and_unpacked(
    zstd, import_layer, run_tool, tmp_path, options, first, by
):
    """Also with what some tools put first, a frame that is to be skipped (RFC 8878, 3.1.2)."""
    program, compress = zstd
    data = tar(("etc/os-release", b"ID=base\n" * 50_000))
    packed = first + compress(data, *options)
    named = {"zstd": [program]} if by == "program" else {}
    out = import_layer(data, f"{TAR}+zstd", packed=packed, **named)
    assert (out / "blob").read_bytes() == packed
    facts = json.loads((out / "layer.json").read_text())
    assert (facts["media-type"], facts["size"]) == (f"{TAR}+zstd", len(packed))
    done = run_tool("unpack_layers.py", {"layers": [out]}, tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root" / "etc" / "os-release").read_bytes() == b"ID=base\n" * 50_000


def test_what_is_wrong_with_a_zstd_layer_is_told_by_its_digest(zstd, import_layer):
    program, compress = zstd
    data = tar(("a", bytes(100_000) + b"x"))
    packed = compress(data)
    for said in (
        import_layer(data, f"{TAR}+zstd", packed=packed[:-8], zstd=[program]),
        import_layer(data, f"{TAR}+zstd", packed=packed[:-8]),
        import_layer(data, f"{TAR}+zstd", packed=packed, zstd=["false"]),
        import_layer(data, f"{TAR}+zstd", packed=compress(data + bytes(512)), zstd=[program]),
        import_layer(data, f"{TAR}+zstd", packed=compress(data + bytes(512))),
    ):
        assert said.startswith("error: sha256:")


def python(prefix="usr/local", version="3.11", program=MODULES, stdlib=STDLIB, site=b""):
    library = f"{prefix}/lib/python{version}"
    members = [(f"{prefix}/bin/python{version}", program, {"mode": 0o755})]
    return [*members, *((f"{library}/{name}", b"") for name in stdlib), (f"{library}/site.py", site)]


def test_a_python_is_found_with_the_folder_for_its_packages(facts):
    """As python:slim has it: in /usr/local, with the interpreter in a library and modules beside it."""
    library = "usr/local/lib/python3.12"
    (one,) = facts(
        tar(
            *python(version="3.12", program=b"PyInit__ctypes\0PyInit__socket\0"),
            ("usr/local/lib/libpython3.12.so.1.0", b"PyInit_zlib\0"),
            (f"{library}/lib-dynload/_ssl.cpython-312-x86_64-linux-gnu.so", b""),
            (f"{library}/site-packages/Six_Pack-1.0.dist-info/RECORD", b""),
        )
    )["pythons"]
    assert one == {
        "path": "/usr/local/bin/python3.12",
        "version": "3.12",
        "home": "/usr/local/bin",
        "prefix": "/usr/local",
        "site-packages": "/usr/local/lib/python3.12/site-packages",
        "distributions": {"six-pack": "1.0"},
        "problem": "",
    }


def test_debians_python_has_its_packages_in_usr_local(facts):
    (one,) = facts(tar(*python("usr", site=b"dist-packages")))["pythons"]
    assert one["site-packages"] == "/usr/local/lib/python3.11/dist-packages"


def test_a_virtual_environment_that_comes_first_on_path_is_the_one(facts):
    layer = tar(*python("usr"), ("venv/bin/python3.11", "/usr/bin/python3.11"), ("venv/pyvenv.cfg", b""))
    first, second = facts(layer, path="/venv/bin:/usr/bin")["pythons"]
    assert (first["path"], first["home"]) == ("/venv/bin/python3.11", "/usr/bin")
    assert first["site-packages"] == "/venv/lib/python3.11/site-packages"
    assert second["path"] == "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"version": "3.8"}, "not one of"),
        ({"program": b"PyInit_zlib\0"}, "it lacks _ctypes, _socket, _ssl"),
        ({"stdlib": ["os.py"]}, "no whole standard library"),
        ({"stdlib": []}, "no whole standard library"),
    ],
)
def test_a_python_that_lacks_what_packages_import_is_named_with_what_it_lacks(facts, options, problem):
    (one,) = facts(tar(*python(**options)))["pythons"]
    assert problem in one["problem"]


def test_what_a_later_layer_took_away_is_not_there(facts):
    below = tar(*python(), ("lib/ld-musl-x86_64.so.1", b""))
    found = facts(below, tar(("usr/local/bin/.wh.python3.11", b""), ("lib/.wh..wh..opq", b"")))
    assert (found["pythons"], found["is-musl"]) == ([], False)


def test_the_c_library_and_the_libraries_that_its_loader_finds(facts):
    found = facts(
        tar(
            ("lib", "usr/lib"),
            (
                "usr/lib/x86_64-linux-gnu/libc.so.6",
                b"..GNU C Library (Ubuntu GLIBC 2.35-0) stable release version 2.35.\n",
            ),
            ("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n"),
            ("etc/ld.so.conf.d/a.conf", b"/opt/a\n"),
            ("opt/a/liba.so.1", b""),
            ("opt/b/libb.so", b""),
            ("opt/c/libc.so.6", b"GNU C Library (other) stable release version 2.17.\n"),
        ),
        library_path="/nowhere:/opt/b",
    )
    assert found["libc"] == "2.35"
    assert found["libraries"] == ["liba.so.1", "libb.so", "libc.so.6"]


def test_paths_follow_a_bases_links_and_its_folders_stay_as_they_are(on_base):
    base = tar(
        ("opt", "srv/opt"),
        ("srv/opt", None, {"mode": 0o2750, "uid": 3}),
        ("usr", None, {"mode": 0o711}),
        ("app", None, {"mode": 0o700}),
    )
    found = on_base([base], files(text("opt/tungsten/a"), text("usr/local/b"), text("app/c")))
    assert [path for path in found if not path.startswith("usr")] == [
        "app",
        "app/c",
        "srv",
        "srv/opt",
        "srv/opt/tungsten",
        "srv/opt/tungsten/a",
    ]
    modes = {path: (info.mode, info.uid) for path, (info, _) in found.items()}
    assert modes["srv/opt"] == (0o2750, 3)
    assert modes["usr"] == (0o711, 0)
    assert modes["usr/local"] == (0o755, 0)
    # /app is ours, whatever the base says.
    assert modes["app"] == (0o775, 65532)


@pytest.mark.parametrize(
    ("passwd", "expected"),
    [
        (
            None,
            "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:0:nonroot:/home/nonroot:/sbin/nologin\n",
        ),
        (b"a:x:1:1::/:/a", "a:x:1:1::/:/a\nnonroot:x:65532:0:nonroot:/home/nonroot:/sbin/nologin\n"),
        (
            b"nonroot:x:1:1::/:/a\n",
            "nonroot:x:1:1::/:/a\ntungsten:x:65532:0:tungsten:/home/nonroot:/sbin/nologin\n",
        ),
        (b"anyone:x:65532:5::/:/a\n", None),
    ],
)
def test_a_bases_accounts_get_one_more_unless_they_have_its_number(on_base, passwd, expected):
    base = tar(("etc/group", b"root:x:0:\n"), *([("etc/passwd", passwd)] if passwd else []))
    found = on_base([base], {"kind": "accounts"})
    assert "etc/group" not in found
    assert (found["etc/passwd"][1].decode() if "etc/passwd" in found else None) == expected


def test_a_package_of_the_base_is_taken_away_by_its_record(on_base):
    site = "usr/lib/python3.11/site-packages"
    record = "six.py,,\n../../../bin/six,,\nsix-1.dist-info/RECORD,,\nmissing.py,,\n../../../../etc/../x,,\n"
    base = tar(
        (f"{site}/six.py", b""),
        (f"{site}/other.py", b""),
        ("usr/bin/six", b""),
        (f"{site}/six-1.dist-info/RECORD", record.encode()),
    )
    found = on_base([base], {"kind": "replaced", "site-packages": f"/{site}", "projects": ["six", "never"]})
    assert [path for path, (info, _) in found.items() if info.isreg()] == [
        "usr/bin/.wh.six",
        f"{site}/.wh.six-1.dist-info",
        f"{site}/.wh.six.py",
    ]


def test_an_images_layers_agree_with_a_base_that_has_other_modes(tools, on_base, import_layer, tmp_path):
    base = tar(("usr", None, {"mode": 0o700}), ("etc/passwd", b"a:x:1:1::/:/a\n"))
    on_base([base], files(text("usr/bin/x")), {"kind": "accounts"})
    folders = [import_layer(base), tmp_path / "layer"]
    facts = [json.loads((folder / "layer.json").read_text()) for folder in folders]
    table = tools.image.check_layers(folders, facts)
    assert table.entries["usr"].mode == 0o700


def test_an_unpacked_root_shows_links_as_the_later_layer_has_them(run_tool, import_layer, tmp_path):
    """A path through a link of a layer below hides the link, and leads nowhere outside."""
    below = tar(("var/run", str(tmp_path)), ("bin", "usr/bin"))
    folders = [import_layer(below), import_layer(tar(("var/run/pid", b"1")), TAR)]
    done = run_tool("unpack_layers.py", {"layers": folders}, tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root" / "var" / "run" / "pid").read_text() == "1"
    assert not (tmp_path / "pid").exists()


def test_whiteouts_take_away_what_is_below_their_layer_alone(run_tool, import_layer, tmp_path):
    """Wherever they stand in it (OCI image specification, "Layer Filesystem Changeset")."""
    below = tar(("home/.old", b""), ("home/two", b"old"), ("gone", b""))
    above = tar(
        ("home/.new", b""),
        ("home/two", b"new"),
        ("home/.wh..wh..opq", b""),
        ("home/.wh.two", b""),
        (".wh.gone", b""),
    )
    folders = [import_layer(below), import_layer(above)]
    done = run_tool("unpack_layers.py", {"layers": folders}, tmp_path / "root")
    assert done.returncode == 0, done.stderr
    root = tmp_path / "root"
    found = {
        path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()
    }
    assert found == {"home/.new": "", "home/two": "new"}


@pytest.mark.parametrize(
    ("member", "status"),
    [
        (("way/.wh.file", b""), 0),
        (("way/.wh..wh..opq", b""), 0),
        ((".wh...", b""), 1),
        (("copy", b"", {"type": tarfile.LNKTYPE, "linkname": "way/file"}), 1),
    ],
)
def test_a_layers_links_lead_nowhere_outside(run_tool, import_layer, tmp_path, member, status):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    folders = [import_layer(tar(("way", str(outside)))), import_layer(tar(member))]
    done = run_tool("unpack_layers.py", {"layers": folders}, tmp_path / "root")
    assert done.returncode == status, done.stderr
    assert (outside / "file").read_text() == "mine"
    assert (outside / "file").stat().st_nlink == 1


@pytest.mark.parametrize("way", ["outside", "../outside"])
def test_no_mode_is_set_through_a_link(run_tool, import_layer, tmp_path, way):
    """A later layer puts a link where a folder was whose folders had modes."""
    (tmp_path / "outside" / "folder").mkdir(parents=True)
    (tmp_path / "outside" / "folder").chmod(0o700)
    target = str(tmp_path / "outside") if way == "outside" else way
    below = tar(("a", None), ("a/folder", None, {"mode": 0o777}), ("b", None, {"mode": 0o750}))
    folders = [import_layer(below), import_layer(tar(("a", target)))]
    done = run_tool("unpack_layers.py", {"layers": folders}, tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root" / "a" / "folder").exists()
    assert (tmp_path / "outside" / "folder").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "root" / "b").stat().st_mode & 0o7777 == 0o750


def sparse(name, size):
    """A tar with a file of a few bytes and of any size (GNU tar's manual, "Storing Sparse Files")."""
    plain = tarfile.TarInfo(name)
    plain.size = 512
    header = bytearray(plain.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:398], header[398:410] = b"%011o\0" % 0, b"%011o\0" % 512
    header[483:495] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = (
        b"%06o\0 " % tarfile.calc_chksums(bytes(header[:148]) + b" " * 8 + bytes(header[156:]))[0]
    )
    return bytes(header) + b"x" * 512 + bytes(10240 - 1024)


def test_a_sparse_file_of_8_tb_is_refused_by_name(import_layer, run_tool, tmp_path):
    data = sparse("var/log/lastlog", 8 << 40)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive
        assert (member.issparse(), member.size) == (True, 8 << 40)
    assert f"var/log/lastlog: a sparse file of {8 << 40} bytes, which no image has" in import_layer(data)
    assert import_layer(sparse("var/log/lastlog", 1 << 20)).is_dir()
    # Nor where a layer was taken over without a look.
    layer = import_layer(tar(("a", b"")))
    (layer / "blob").unlink()
    (layer / "blob").write_bytes(data)
    done = run_tool("unpack_layers.py", {"layers": [layer]}, tmp_path / "root")
    assert done.returncode == 1
    assert "a sparse file of" in done.stderr


# What is installed into a base by dpkg's records

SEVEN = """\
Package: seven
Status: install ok installed
Version: 1
Architecture: amd64
Conffiles:
 /etc/seven.conf {}
 /etc/gone.conf {}
Description: the old one
"""


def records(*stanzas, **more):
    """Members of a base's tar: its status and other files of dpkg's."""
    files = {"status": "\n".join(stanzas), **{name.replace("__", "/"): text for name, text in more.items()}}
    return [(f"var/lib/dpkg/{name}", text.encode()) for name, text in files.items()]


def md5(text):
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def installed(on_base):
    """What a layer has that installs packages into a base, by path: bytes, `-> target`, or None for a folder."""

    def make(members, *debs):
        found = on_base(
            [tar(("lib", "usr/lib"), *members)], *({**one, "dpkg": True} for one in debs), {"kind": "dpkg"}
        )
        return {
            path: f"-> {info.linkname}" if info.issym() else content
            for path, (info, content) in found.items()
        }

    return make


@pytest.fixture
def not_installed(run_tool, import_layer, tmp_path):
    """The message where packages can't be installed into a base."""

    def make(members, *debs):
        inputs = [*({**one, "dpkg": True} for one in debs), {"kind": "dpkg"}]
        config = {"created-by": "x", "python": None, "lower": [], "base": [import_layer(tar(*members))]}
        done = run_tool("layer.py", {**config, "inputs": inputs}, tmp_path / "layer")
        assert done.returncode == 1
        return done.stderr

    return make


def test_dpkgs_records_are_those_of_what_was_there_and_of_what_came(installed, make_deb):
    scripts = {"postinst": "#!/bin/sh\n", "triggers": "activate-noawait ldconfig\n"}
    other = "Package: other\nStatus: install ok installed\nVersion: 3\nArchitecture: all\n"
    found = installed(
        records(other), make_deb("new", [("lib", None), ("lib/x.so", b"x"), ("bin/x", b"")], scripts=scripts)
    )
    assert found["usr/lib/x.so"] == b"x"
    assert found["var/lib/dpkg/status"].decode() == (
        f"{other}\nPackage: new\nStatus: install ok installed\nVersion: 1.0-1\nArchitecture: amd64\n"
        "Description: a package\n of a test\n"
    )
    assert found["var/lib/dpkg/info/new.list"] == b"/.\n/usr/lib/x.so\n/usr/bin/x\n"
    assert found["var/lib/dpkg/info/new.postinst"] == b"#!/bin/sh\n"
    assert found["var/lib/dpkg/info/new.md5sums"].endswith(b"usr/x\n")
    assert not any("status.d" in path for path in found)


def test_a_newer_version_takes_the_place_of_an_older_with_all_its_files(installed, make_deb):
    lists = "/.\n/usr\n/usr/lib\n/lib/kept\n/usr/lib/old\n/usr/lib/shared\n"
    base = records(SEVEN.format("0" * 32, "0" * 32))
    base = [
        *base,
        ("var/lib/dpkg/info/seven.list", lists.encode()),
        ("var/lib/dpkg/info/seven.prerm", b"old"),
        ("var/lib/dpkg/info/seven-up.list", b"/usr/lib/shared\n"),
        *((f"usr/lib/{name}", b"old") for name in ("kept", "old", "shared")),
    ]
    found = installed(base, make_deb("seven", [("usr/lib/kept", b"new")], version="2"))
    assert found["usr/lib/kept"] == b"new"
    assert {path for path in found if "/.wh." in path} == {
        "usr/lib/.wh.old",
        "var/lib/dpkg/info/.wh.seven.prerm",
    }
    text = found["var/lib/dpkg/status"].decode()
    assert text.count("Package: seven\n") == 1
    assert "Version: 2\n" in text


@pytest.mark.parametrize(
    ("there", "recorded", "stays"),
    [
        ("old", "old", False),
        ("mine", "old", True),
        ("new", "old", False),
        (None, "old", True),
        ("mine", None, True),
    ],
)
def test_configuration_that_somebody_changed_or_removed_stays_so(installed, make_deb, there, recorded, stays):
    stanza = SEVEN.format(md5(recorded), md5("x")) if recorded else "Package: other\nVersion: 1\n"
    base = [*records(stanza), *([("etc/seven.conf", there.encode())] if there is not None else [])]
    deb = make_deb(
        "seven", [("etc/seven.conf", b"new")], version="2", scripts={"conffiles": "/etc/seven.conf\n"}
    )
    found = installed(base, deb)
    assert ("etc/seven.conf" not in found) == stays
    assert f"Conffiles:\n /etc/seven.conf {md5('new')}\n" in found["var/lib/dpkg/status"].decode()


def test_alternatives_are_chosen_among_the_bases_and_the_new(installed, make_deb):
    group = "auto\n/usr/bin/editor\neditor.1\n/usr/man/editor.1\n\n/bin/nano\n40\n/usr/man/nano.1\n\n"
    base = [
        *records("Package: nano\nVersion: 1\n", alternatives__editor=group),
        ("usr/bin/nano", b""),
        ("usr/man/nano.1", b""),
        ("bin", "usr/bin"),
        ("usr/bin/editor", "/etc/alternatives/editor"),
        ("usr/man/editor.1", "/etc/alternatives/editor.1"),
        ("etc/alternatives/editor", "/bin/nano"),
        ("etc/alternatives/editor.1", "/usr/man/nano.1"),
    ]

    def vim(priority):
        line = f"update-alternatives --install /usr/bin/editor editor /usr/bin/vim {priority}\n"
        return make_deb("vim", [("usr/bin/vim", b"")], version=str(priority), scripts={"postinst": line})

    lower = installed(base, vim(30))
    assert lower["etc/alternatives/editor"] == "-> /bin/nano"
    assert (
        lower["var/lib/dpkg/alternatives/editor"].decode()
        == group.removesuffix("\n") + "/usr/bin/vim\n30\n\n\n"
    )


def test_a_better_alternative_takes_over_and_leaves_no_slave_of_the_old(installed, make_deb):
    group = "auto\n/usr/bin/editor\neditor.1\n/usr/man/editor.1\n\n/usr/bin/nano\n40\n/usr/man/nano.1\n\n"
    base = [
        *records("Package: nano\nVersion: 1\n", alternatives__editor=group),
        ("usr/bin/nano", b""),
        ("usr/man/editor.1", "/etc/alternatives/editor.1"),
        ("etc/alternatives/editor.1", "/usr/man/nano.1"),
    ]
    line = "update-alternatives --install /usr/bin/editor editor /usr/bin/vim 50\n"
    found = installed(base, make_deb("vim", [("usr/bin/vim", b"")], scripts={"postinst": line}))
    assert found["etc/alternatives/editor"] == "-> /usr/bin/vim"
    assert "usr/man/.wh.editor.1" in found
    assert "etc/alternatives/.wh.editor.1" in found


def test_an_alternative_that_somebody_chose_stays(installed, make_deb):
    group = "manual\n/usr/bin/editor\n\n/usr/bin/nano\n40\n\n"
    base = [*records("Package: nano\nVersion: 1\n", alternatives__editor=group), ("usr/bin/nano", b"")]
    line = "update-alternatives --install /usr/bin/editor editor /usr/bin/vim 50\n"
    found = installed(base, make_deb("vim", [("usr/bin/vim", b"")], scripts={"postinst": line}))
    assert "etc/alternatives/editor" not in found
    assert b"/usr/bin/vim\n50\n" in found["var/lib/dpkg/alternatives/editor"]


def test_authorities_of_somebodys_own_stay_in_the_bundle(installed, make_deb):
    authority = [("usr/share/ca-certificates/mozilla/a.crt", b"a")]
    deb = make_deb("ca-certificates", authority)
    assert installed(records("Package: x\n"), deb)["etc/ssl/certs/ca-certificates.crt"] == b"a\n"


def test_a_bundle_with_authorities_of_somebodys_own_is_left(installed, make_deb):
    base = [*records("Package: x\n"), ("usr/local/share/ca-certificates/own.crt", b"own")]
    deb = make_deb("ca-certificates", [("usr/share/ca-certificates/mozilla/a.crt", b"a")])
    assert "etc/ssl/certs/ca-certificates.crt" not in installed(base, deb)


OWNED = [
    *records("Package: old\nVersion: 1\n"),
    ("var/lib/dpkg/info/old.list", b"/usr/x\n"),
    ("usr/x", b"old"),
]


def test_a_file_of_another_package_is_replaced_by_who_may(installed, make_deb):
    assert installed(OWNED, make_deb("new", [("usr/x", b"new")], replaces="old (<< 2)"))["usr/x"] == b"new"


@pytest.mark.parametrize(
    ("base", "members", "message"),
    [
        (OWNED, [("usr/x", b"new")], "/usr/x: in both old of the base image and new"),
        ([*records("Package: x\n"), ("usr/x/y", b"")], [("usr/x", b"")], "a folder of the base image"),
        (
            records("Package: x\n", diversions="/usr/x\n/usr/x.real\nlocal\n"),
            [("usr/x", b"")],
            "the base image diverts",
        ),
    ],
)
def test_what_dpkg_would_refuse_is_refused(not_installed, make_deb, base, members, message):
    assert message in not_installed(base, make_deb("new", members))


def test_a_packages_diversion_of_the_bases_file_is_refused(not_installed, make_deb):
    line = "dpkg-divert --package new --rename --divert /usr/x.real --add /usr/x\n"
    deb = make_deb("new", [("usr/y", b"")], scripts={"preinst": f"#!/bin/sh\n{line}"})
    assert "divert" in not_installed(OWNED, deb)


def test_the_facts_say_what_the_base_is_and_what_is_installed(facts):
    layers = tar(
        ("usr/lib/os-release", b"ID=debian\n"),
        ("etc/os-release", "../usr/lib/os-release"),
        ("lib", "usr/lib"),
    )
    found = facts(layers, tar(*records("Package: \xe9\n")))["system"]
    assert found == {"os-release": "ID=debian\n", "status": "Package: \xe9\n", "has-merged-usr": True}
