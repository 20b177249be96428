"""Small ELF files, wheels and Debian packages for tests: what their headers say, and nothing that runs."""

import io
import struct
import tarfile
import zipfile

X86_64, AARCH64 = 62, 183
_NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 1, 5, 10, 14, 15, 29
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3


def elf(*needed, soname="", rpath="", runpath="", module="", program=False, machine=X86_64):
    """A 64-bit little-endian shared object (the ELF specification)."""
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
    size = start + len(strings) + len(dynamic)
    header = struct.pack("<4sBBBB8x", b"\x7fELF", 2, 1, 1, 0)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, segments, 64, 0, 0)

    def segment(kind, offset, length):
        return struct.pack("<IIQQQQQQ", kind, 4, offset, offset, offset, length, length, 8)

    table = segment(_PT_LOAD, 0, size) + segment(_PT_DYNAMIC, start + len(strings), len(dynamic))
    if program:
        table += segment(_PT_INTERP, start, 1)
    return header + table + strings + dynamic


def wheel(path, files, requires=()):
    """A wheel at `path` with these files, by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name, version = path.name.split("-")[:2]
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in {**files, f"{name}-{version}.dist-info/METADATA": metadata}.items():
            # Not the time of day: the same files make the same wheel.
            archive.writestr(zipfile.ZipInfo(member), content)
    return path


def deb(path, files=(), links=(), compression="xz"):
    """A Debian package at `path` with these files and symbolic links, by name."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as tar:
        for name, content in dict(files).items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in dict(links).items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    path.parent.mkdir(parents=True, exist_ok=True)
    members = (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"odd"),
        (f"data.tar.{compression}", data.getvalue()),
    )
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members:
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path
