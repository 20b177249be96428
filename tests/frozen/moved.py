"""The frozen archive on a later day: every package has a newer version, which holds the same files.

Debian's versions and those of wheels get an end, `+DAY`, which sorts behind what they were (Debian policy 5.6.12,
PEP 440), or wheels another one. Where a package asks for one exact version of another, it asks for the newer one.
"""

import lzma
import re
import tarfile
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from tests.binaries import ar, wheel_record
from tests.frozen.archive import Archive, Deb, ar_members

RELEASES = ("bookworm", "trixie")
LARGE = 2_000_000
"""Bytes."""
_EXACT = re.compile(r"\(= ([^)]+)\)")
_EXACT_WHEEL = re.compile(rb"^(Requires-Dist: [^;\n]*==[^,;\s)]+)", re.MULTILINE)


def later(archive, folder, day, needed, *, post=None):
    """An archive of a later day, in a folder, not published yet; of what it was only the new is in it.

    needed: the packages and projects that matter; of others what is large is left out, and what is for arm64 is, too.
    post: the end of wheels' versions in place of `+DAY`, which a solver takes for the same version built otherwise.
    """
    debs = {
        key: [deb for deb in found if _matters(deb, needed)]
        for key, found in archive.debs.items()
        if key[0] in RELEASES
    }
    versions = {deb.fields["Version"] for found in debs.values() for deb in found}
    moved = Archive(folder / "archive", archive.key)
    (folder / "files").mkdir(parents=True)
    for (release, kind), found in debs.items():
        for deb in found:
            moved.add_deb(_newer_deb(deb, folder / "files", day, versions), release, kind)
    for project, files in archive.files.items():
        for name, path in files.items() if project in needed else ():
            if "aarch64" in name:
                continue
            moved.add_wheel(_newer_wheel(path, name, folder / "files", post or f"+{day}"))
    for path in (archive.folder / "npm").rglob("*.tgz"):
        moved.add_npm(path, path.relative_to(archive.folder / "npm"))
    return moved


def _matters(deb, needed):
    fields = deb.fields
    return fields["Architecture"] != "arm64" and (deb.size < LARGE or fields["Package"] in needed)


def _newer_deb(deb, folder, day, versions):
    def exact(match):
        return f"(= {match[1]}+{day})" if match[1] in versions else match[0]

    control = _EXACT.sub(exact, deb.control)
    control = re.sub(r"^(Version: .*)$", rf"\1+{day}", control, count=1, flags=re.MULTILINE)
    members = []
    for name, data in ar_members(deb.path.read_bytes()):
        if name.startswith("control.tar"):
            members.append(("control.tar.xz", lzma.compress(_with_control(data, control), preset=0)))
        else:
            members.append((name, data))
    stem, architecture = Path(deb.pool).stem.rsplit("_", 1)
    path = folder / f"{stem}+{day}_{architecture}.deb"
    path.write_bytes(ar(members))
    known = Deb.read_control(path, str(Path(deb.pool).with_name(path.name)))
    return replace(known, files=deb.files)


def _with_control(data, control):
    """A package's control archive with another control file."""
    made = BytesIO()
    with tarfile.open(fileobj=BytesIO(data)) as old, tarfile.open(fileobj=made, mode="w") as new:
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else None
            if Path(member.name).name == "control":
                content = control.encode()
                member.size = len(content)
            new.addfile(member, None if content is None else BytesIO(content))
    return made.getvalue()


def _newer_wheel(path, name, folder, end):
    project, version, tags = re.fullmatch(r"([^-]+)-([^-]+)-(.+)", name).groups()
    target = folder / f"{project}-{version}{end}-{tags}"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        (info,) = {n.split("/")[0] for n in old.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)}
        newer = f"{project}-{version}{end}.dist-info"
        lines = []
        for member in old.infolist():
            content = old.read(member)
            if member.filename == f"{info}/RECORD":
                continue
            if member.filename == f"{info}/METADATA":
                content = re.sub(
                    rb"^Version: .*$",
                    f"Version: {version}{end}".encode(),
                    content,
                    count=1,
                    flags=re.MULTILINE,
                )
                if not end.startswith("+"):
                    content = _EXACT_WHEEL.sub(rb"\1" + end.encode(), content)
            member.filename = member.filename.replace(f"{info}/", f"{newer}/", 1)
            # Fast: it is written once for each day, and read once.
            new.writestr(member, content, compress_type=zipfile.ZIP_STORED)
            if not member.is_dir():
                lines.append(f"{member.filename},{wheel_record(content)}\n")
        new.writestr(zipfile.ZipInfo(f"{newer}/RECORD"), "".join([*lines, f"{newer}/RECORD,,\n"]))
    return target
