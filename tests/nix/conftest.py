"""Small archives made on the spot, and the programs of nix/tools run as builds run them."""

import base64
import functools
import hashlib
import importlib
import io
import json
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

TOOLS = Path(__file__).parent.parent.parent / "nix" / "tools"
LIB = TOOLS / "lib"


@pytest.fixture(scope="session")
def tools():
    """The modules of nix/tools, imported without leaving their folder on the path."""
    names = (
        "blob",
        "changes",
        "contents",
        "context",
        "debversion",
        "difference",
        "elf",
        "exported",
        "image",
        "layer",
        "ldcache",
        "maintscripts",
        "program",
        "rootfs",
        "scriptrun",
        "system",
        "tarstream",
        "unpacking",
        "zstd",
    )
    before = sys.path[:]
    sys.path[:0] = [str(TOOLS), str(LIB)]
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path[:] = before


STARTER = """
import json, os, sys

sys.path[:0] = sys.argv[1:3]
for name in sys.argv[3:]:
    __import__(name)
del sys.path[:2]

# It is the same zlib for all of them.
blob = sys.modules["blob"]
blob.check_compressor()
blob.check_compressor = lambda: None


def start(path, arguments, folder, umask, environment, streams):
    os.chdir(folder)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate([os.devnull, *streams]):
        file = os.open(stream, os.O_RDWR)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [path, *arguments]
    program = sys.modules["__main__"] = type(sys)("__main__")
    program.__file__ = path
    exec(compiled[path], program.__dict__)


compiled = {}
for line in sys.stdin:
    path, *asked = json.loads(line)
    if path not in compiled:
        with open(path, "rb") as file:
            compiled[path] = compile(file.read(), path, "exec")
    pid = os.fork()
    if pid == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
start(path, *asked)
"""
"""A Python as builds start it, which has imported what programs of nix/tools do, and runs them as copies of itself."""

FLAGS = ("-I", "-S", "-B")
PROGRAMS = (
    *(
        "archive",
        "base_facts",
        "image",
        "import_layer",
        "layer",
        "pack_export",
        "pack_wheel",
        "post_build_view",
    ),
    *("run_commands", "shell_programs", "unpack_layers", "wheel_facts"),
)


class Starter:
    """A running STARTER: half of what a short program takes is Python's own start, and what it imports."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        command = [sys.executable, *FLAGS, "-c", STARTER, TOOLS, LIB, *PROGRAMS]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd="/", text=True, **pipes)

    def run(self, program, *arguments):
        """The finished program, which had this process's folder, umask and environment."""
        streams = [Path(self._folder.name) / name for name in ("out", "error")]
        for stream in streams:
            stream.write_bytes(b"")
        umask = os.umask(0o077)
        os.umask(umask)
        asked = (TOOLS / program, arguments, Path.cwd(), umask, dict(os.environ), streams)
        print(json.dumps(asked, default=str), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, *(stream.read_text() for stream in streams))

    def close(self):
        self._process.communicate()
        self._folder.cleanup()


_starter = functools.cache(Starter)


@pytest.fixture(scope="session", autouse=True)
def _starter_is_closed():
    yield
    if _starter.cache_info().currsize:
        _starter().close()


def _run_tool(program, source, out, python=sys.executable, **options):
    if isinstance(source, dict):
        config = out.with_name(out.name + ".json")
        config.write_text(json.dumps(source, default=str))
        source = config
    if python == sys.executable and not options and program.removesuffix(".py") in PROGRAMS:
        return _starter().run(program, source, out)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.run([python, *FLAGS, TOOLS / program, source, out], check=False, **options)


@pytest.fixture(scope="session")
def run_tool():
    """Run a program of nix/tools; its input may be a path, or a configuration to write beside `out`."""
    return _run_tool


@dataclass
class Layer:
    """A layer that `layer.py` made."""

    path: Path
    facts: dict = field(init=False)
    files: dict = field(init=False)

    def __post_init__(self):
        self.facts = json.loads((self.path / "layer.json").read_text())
        self.files = json.loads((self.path / "files.json").read_text())

    @property
    def blob(self):
        return (self.path / "blob").read_bytes()

    def members(self):
        """Path -> TarInfo, in the order of the archive."""
        with tarfile.open(self.path / "blob", "r:gz") as archive:
            return {info.name: info for info in archive}

    def read(self, path):
        with tarfile.open(self.path / "blob", "r:gz") as archive:
            return archive.extractfile(path).read()

    def entry(self, path):
        return next(entry for entry in self.files["entries"] if entry["path"] == path)


@pytest.fixture
def make_layer(tmp_path):
    """Make a layer of inputs; one that fails is an AssertionError with the program's message."""
    count = iter(range(1000))

    def make(*inputs, lower=(), python=None, created_by="a layer", runner=sys.executable, **options):
        config = {"created-by": created_by, "python": python, "lower": list(lower), "inputs": list(inputs)}
        out = tmp_path / f"layer-{next(count)}"
        result = _run_tool("layer.py", config, out, runner, **options)
        assert result.returncode == 0, result.stderr
        return Layer(out)

    return make


def words(stderr):
    """What a program that failed says to people: one line; what it tells programs is before it."""
    (said,) = (line for line in stderr.splitlines() if not line.startswith("@tungsten "))
    assert said.startswith("error: ")
    return said.removeprefix("error: ").strip()


def told(stderr):
    """What a program tells programs."""
    mark = "@tungsten "
    lines = stderr.splitlines()
    return [json.loads(line.removeprefix(mark)) for line in lines if line.startswith(mark)]


@pytest.fixture
def layer_error(tmp_path):
    """The message of a layer that can't be made: one line, exit status 1, nothing left behind."""

    def error(*inputs, **config):
        out = tmp_path / "failed"
        config = {"created-by": "a layer", "python": None, "lower": [], "inputs": list(inputs), **config}
        result = _run_tool("layer.py", config, out)
        assert result.returncode == 1
        assert result.stdout == ""
        assert not out.exists()
        return words(result.stderr)

    return error


def _tar(members):
    """A tar of (name, bytes | None for a folder | (kind, target) for links[, mode, uid, gid])."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content, *attributes in members:
            info = tarfile.TarInfo("./" + name)
            info.mode, info.uid, info.gid = [
                *attributes,
                *(0o755 if content is None else 0o644, 0, 0)[len(attributes) :],
            ]
            info.mtime = 1234567890
            info.uname = info.gname = "somebody"
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(content, tuple):
                info.type, info.linkname = (
                    {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[content[0]],
                    content[1],
                )
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def _ar(members):
    data = b"!<arch>\n"
    for name, content in members:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        data += b"\n" * (len(content) % 2)
    return data


@pytest.fixture
def make_deb(tmp_path):
    """Write a .deb and return it as an input of a layer."""

    def make(
        name,
        members,
        version="1.0-1",
        compress=lzma.compress,
        suffix=".xz",
        replaces=None,
        scripts=None,
        damage=None,
    ):
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDescription: a package\n of a test\n"
        )
        if replaces is not None:
            control += f"Replaces: {replaces}\n"
        control_members = [("control", control.encode()), ("md5sums", b"0" * 32 + b"  usr/x\n")]
        control_members += [(script, text.encode(), 0o755) for script, text in (scripts or {}).items()]
        data = _ar(
            [
                ("debian-binary", b"2.0\n"),
                ("control.tar.xz", lzma.compress(_tar(control_members))),
                (f"data.tar{suffix}", compress(_tar([("", None), *members]))),
            ]
        )
        path = tmp_path / f"{name}_{version}_amd64.deb"
        path.write_bytes(damage(data) if damage else data)
        return {"kind": "deb", "path": str(path)}

    return make


def _record_hash(data):
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def make_wheel(tmp_path):
    """Write a wheel and return it as an input of a layer."""

    def make(name, members, version="1.0", record=None, executable=(), stored=(), **fields):
        info = f"{name}-{version}.dist-info"
        members = {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            **members,
        }
        rows = {member: f"{member},{_record_hash(data)},{len(data)}" for member, data in members.items()}
        rows.update({member: f"{member},{row}" for member, row in (record or {}).items()})
        text = "".join(
            f"{row}\n" for row in [*rows.values(), f"{info}/RECORD,,"] if not row.endswith(",MISSING")
        )
        path = tmp_path / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in {**members, f"{info}/RECORD": text.encode()}.items():
                entry = zipfile.ZipInfo(member)
                entry.external_attr = (0o100755 if member in executable else 0o100644) << 16
                entry.compress_type = zipfile.ZIP_STORED if member in stored else zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
        return _wheel_input(path, **fields)

    return make


@pytest.fixture(scope="session")
def wheel_input():
    """A wheel on disk as an input of a layer."""
    return _wheel_input


def _wheel_input(path, **fields):
    return {
        "kind": "wheel",
        "path": str(path),
        "file": Path(path).name,
        "prefix": "usr/local",
        "site-packages": "usr/local/lib/python3.11/dist-packages",
        "interpreter": "/usr/bin/python3.11",
        **fields,
    }


@pytest.fixture(scope="session")
def python():
    """The Python of these tests as the `python` of a configuration."""
    return {"command": [sys.executable], "version": f"{sys.version_info.major}.{sys.version_info.minor}"}


@pytest.fixture(scope="session")
def make_elf():
    """The bytes of a shared object with a soname and, on x86, a level of the instruction set that it asks for."""

    def make(soname="", level=None, machine=62):
        strings = b"\0" + soname.encode() + b"\0"
        note = b""
        if level is not None:
            description = struct.pack("<IIII", 0xC0008002, 4, 1 << level, 0)
            note = struct.pack("<III", 4, len(description), 5) + b"GNU\0" + description
        headers = 64 + 56 * 3
        dynamic = struct.pack("<qQ", 5, headers)
        if soname:
            dynamic += struct.pack("<qQ", 14, 1)
        dynamic += struct.pack("<qQ", 0, 0)
        place = headers + len(strings) + -len(strings) % 8
        segments = [
            (1, 5, 0, 0, place + len(dynamic) + len(note), 4096),
            (2, 6, place, place, len(dynamic), 8),
            (0x6474E553 if note else 0, 4, place + len(dynamic), place + len(dynamic), len(note), 8),
        ]
        data = b"\x7fELF\x02\x01\x01" + bytes(9)
        data += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
        for kind, flags, offset, address, size, alignment in segments:
            data += struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, alignment)
        return data + strings + bytes(-len(strings) % 8) + dynamic + note

    return make
