"""Small ELF files, wheels and Debian packages for tests: what their headers say, and nothing that runs."""

import base64
import hashlib
import io
import struct
import tarfile
import zipfile

X86_64, AARCH64 = 62, 183
_NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 1, 5, 10, 14, 15, 29
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3


def unpack(archive, folder, **options):
    """Unpack all of an opened tar archive, as it is. Which filter that is can't be said before Python 3.11.4, which
    Debian 12 has not, and must be from 3.12 on.
    """
    archive.extraction_filter = lambda member, _folder: member
    archive.extractall(folder, **options)


def elf(*needed, soname="", rpath="", runpath="", module="", program=False, machine=X86_64, gap=0):
    """A 64-bit little-endian shared object (the ELF specification). gap: zeros between its names and what uses them."""
    strings = b"\0"
    entries = []

    def text(value):
        nonlocal strings
        strings += value.encode() + b"\0"
        return len(strings) - len(value) - 1

    entries += [(_NEEDED, text(name)) for name in needed]
    single = {_SONAME: soname, _RPATH: rpath, _RUNPATH: runpath}
    entries += [(tag, text(value)) for tag, value in single.items() if value]
    if module:
        text(f"PyInit_{module}")
    segments = 3 if program else 2
    start = 64 + 56 * segments
    entries += [(_STRTAB, start), (_STRSZ, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    place = start + len(strings) + gap
    size = place + len(dynamic)
    header = struct.pack("<4sBBBB8x", b"\x7fELF", 2, 1, 1, 0)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, segments, 64, 0, 0)

    def segment(kind, offset, length):
        return struct.pack("<IIQQQQQQ", kind, 4, offset, offset, offset, length, length, 8)

    table = segment(_PT_LOAD, 0, size) + segment(_PT_DYNAMIC, place, len(dynamic))
    if program:
        table += segment(_PT_INTERP, start, 1)
    return header + table + strings + bytes(gap) + dynamic


def wheel(path, files, requires=(), more=""):
    """A wheel at `path` (PEP 427) with these files, by name; what they hold is text or bytes.

    more: of its metadata, a field.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name, version, *_, python, abi, platform = path.name.removesuffix(".whl").split("-")
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    metadata += f"{more}\n" if more else ""
    tag = f"{python}-{abi}-{platform}"
    pure = str(platform == "any").lower()
    files = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {pure}\nTag: {tag}\n",
    }
    record = (
        "".join(f"{member},{wheel_record(content)}\n" for member, content in files.items())
        + f"{info}/RECORD,,\n"
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in {**files, f"{info}/RECORD": record}.items():
            # Not the time of day: the same files make the same wheel.
            archive.writestr(zipfile.ZipInfo(member), content)
    return path


def wheel_record(content):
    """What `RECORD` says of a file (PEP 376): its hash and its size."""
    data = content.encode() if isinstance(content, str) else content
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest},{len(data)}"


def deb(path, files=(), links=(), compression="xz", control=(), scripts=()):
    """A Debian package at `path`, NAME_VERSION_ARCHITECTURE.deb (deb(5)), with these files and symbolic links, by name;
    a folder's content is None.

    control: more of its control fields. scripts: its maintainer scripts, by name.
    """
    name, version, architecture = [*path.stem.split("_"), "1", "amd64"][:3]
    fields = {"Package": name, "Version": version, "Architecture": architecture, "Maintainer": "the tests"}
    fields |= {"Description": "a package of the tests"} | dict(control)
    text = "".join(f"{field}: {value}\n" for field, value in fields.items())
    members = {"control": text.encode()} | {script: text.encode() for script, text in dict(scripts).items()}
    archives = (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", _tar(members, {}, "xz", set(dict(scripts)))),
        (f"data.tar.{compression}", _tar(dict(files), dict(links), compression)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ar(archives))
    return path


def ar(members):
    """An archive of pairs of a name and bytes, as a .deb is one."""
    data = b"!<arch>\n"
    for name, content in members:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    return data


def _tar(files, links, compression, programs=frozenset()):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                member.size = len(content)
                member.mode = 0o755 if name in programs or "/bin/" in name else 0o644
            archive.addfile(member, io.BytesIO(content or b""))
        for name, target in links.items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return data.getvalue()
