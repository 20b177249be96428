"""/etc/ld.so.cache is what ldconfig writes, byte for byte, for any tree of libraries."""

import platform
import shutil
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.machine import needs

ARCHITECTURES = {"x86_64": ("amd64", "x86_64-linux-gnu", 62), "aarch64": ("arm64", "aarch64-linux-gnu", 183)}
ARCHITECTURE, TRIPLET, MACHINE = ARCHITECTURES.get(platform.machine(), ("amd64", "x86_64-linux-gnu", 62))
LDCONFIG = shutil.which("ldconfig", path="/sbin:/usr/sbin")
HAS_DEBIANS_LDCONFIG = bool(
    LDCONFIG
    and platform.machine() in ARCHITECTURES
    and b"Debian" in subprocess.run([LDCONFIG, "--version"], capture_output=True, check=False).stdout
)

FOLDERS = [
    f"usr/lib/{TRIPLET}",
    "usr/lib",
    "usr/local/lib",
    "opt/l",
    "opt/hidden",
    f"usr/lib/{TRIPLET}/glibc-hwcaps/one",
    f"usr/lib/{TRIPLET}/glibc-hwcaps/two",
    "usr/local/lib/glibc-hwcaps/two",
]
# No leading zeros: ldconfig takes two names that differ in them for one, and which it keeps depends on the disk.
names = st.builds(
    "{}{}.so{}".format,
    st.sampled_from(["lib", "lib", "lib", "ld-", "x"]),
    st.sampled_from(["a", "b", "a9", "a10", "-b"]),
    st.sampled_from(["", ".1", ".2", ".10", ".1.2", ".1.10"]),
)
libraries = st.tuples(st.just("elf"), st.one_of(st.just(""), names), st.one_of(st.none(), st.integers(0, 3)))
links = st.tuples(
    st.just("link"), st.one_of(names, st.builds("/{}/{}".format, st.sampled_from(FOLDERS), names))
)
others = st.tuples(st.just("text"), st.sampled_from(["", "GROUP ( libc.so.6 )", "\x7fELF"]))
configurations = st.lists(
    st.sampled_from(
        ["/opt/l", "/opt/l/  # twice", "/usr/local/lib", f"/usr/lib/{TRIPLET}", "/nowhere", "", "# nothing",
         "include /etc/ld.so.conf.d/*.conf", "include more/*.conf"]
    ),
    max_size=5,
).map("\n".join)  # fmt: skip


@needs("root")  # for a root of its own, in which it looks
@pytest.mark.skipif(not HAS_DEBIANS_LDCONFIG, reason="needs Debian's ldconfig")
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(FOLDERS), names),
        st.one_of(libraries, libraries, links, others),
        max_size=25,
    ),
    configurations,
    st.dictionaries(st.sampled_from(["etc/ld.so.conf.d/a.conf", "etc/more/b.conf"]), st.just("/opt/l\n")),
)
@example(
    {
        (f"usr/lib/{TRIPLET}/glibc-hwcaps/one", "xb.so.2"): ("elf", "", None),
        (f"usr/lib/{TRIPLET}/glibc-hwcaps/one", "xa.so"): ("link", "xb.so.2"),
    },
    "",
    {},
)
def test_any_root(tools, make_elf, tmp_path_factory, files, configuration, included):
    root = tmp_path_factory.mktemp("root")
    entry = tools.rootfs.Entry
    table = tools.rootfs.Table()
    objects = {}

    def add(path, content=None, target=None):
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if target is not None:
            place.symlink_to(target)
            table.add(entry(path, "link", 0o777, target=target))
        elif content is None:
            place.mkdir(exist_ok=True)
            table.add(entry(path, "dir", 0o755))
        else:
            place.write_bytes(content)
            table.add(entry(path, "file", 0o644))
            found = tools.elf.shared_object(path, lambda offset, size: content[offset : offset + size])
            if found:
                objects[path] = found

    for folder in FOLDERS:
        add(folder)
    add("lib", target="usr/lib")
    texts = {"etc/ld.so.conf": configuration, **included}
    for path, text in texts.items():
        add(path, text.encode())
    for (folder, name), (kind, *values) in files.items():
        path = f"{folder}/{name}"
        if kind == "elf":
            soname, level = values
            add(path, make_elf(soname, level if MACHINE == 62 else None, MACHINE))
        elif kind == "link":
            add(path, target=values[0])
        else:
            add(path, values[0].encode())
    table.add_parents()
    subprocess.run([LDCONFIG, "-X", "-i", "-r", root], capture_output=True, check=True)
    expected = (root / "etc/ld.so.cache").read_bytes()
    release = expected[expected.rindex(b"ldconfig (") + len("ldconfig ") :].decode()
    assert (
        tools.ldcache.ld_so_cache(tools.ldcache.Root(table), ARCHITECTURE, objects, texts, release)
        == expected
    )


def test_links_are_followed_as_the_kernel_does(tools):
    entry = tools.rootfs.Entry
    table = tools.rootfs.Table()
    for path, target in {
        "lib": "usr/lib",
        "usr/lib/a": "/etc/alternatives/a",
        "etc/alternatives/a": "/lib/real",
        "usr/lib/up": "../lib/./real",
        "loop": "loop",
        "dangling": "nothing",
    }.items():
        table.add(entry(path, "link", 0o777, target=target))
    table.add(entry("usr/lib/real", "file", 0o644))
    table.add_parents()
    root = tools.ldcache.Root(table)
    for path in ("usr/lib/a", "/lib/a", "lib/up", "lib/../lib/real"):
        assert root.resolve(path) == "usr/lib/real"
    assert root.resolve("") == ""
    assert root.resolve("loop") is None
    assert root.resolve("dangling") is None


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(100), b"\x7fELF\x02\x01" + b"\xff" * 100]
)
def test_what_is_no_library_has_no_facts(tools, data):
    assert tools.elf.shared_object("x", lambda offset, size: data[offset : offset + size]) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), st.integers(0, 500))
def test_damaged_libraries_are_no_error(tools, make_elf, changes, end):
    """ldconfig passes over them, and so do we."""
    data = bytearray(make_elf("libx.so.1", 2))
    for place, value in changes:
        data[place % len(data)] = value
    tools.elf.shared_object("x", lambda offset, size: bytes(data[:end])[offset : offset + size])


@pytest.mark.parametrize(("architecture", "name"), [("amd64", "haswell"), ("arm64", "atomics")])
def test_old_subfolders_for_processors_are_refused(tools, architecture, name):
    """glibc before 2.37 looked into them, which we do not; each processor has its own."""
    entry = tools.rootfs.Entry
    table = tools.rootfs.Table()
    table.add(entry(f"usr/lib/{name}/libx.so.1", "file", 0o644))
    table.add_parents()
    root = tools.ldcache.Root(table)
    arguments = ({}, {"etc/ld.so.conf": "/usr/lib"})
    for version in ("2.31", "2.36"):
        with pytest.raises(tools.program.ToolError, match=f"/usr/lib/{name}"):
            tools.ldcache.ld_so_cache(root, architecture, *arguments, f"stable release version {version}")
    tools.ldcache.ld_so_cache(root, architecture, *arguments, "stable release version 2.41")
    other = {"amd64": "arm64", "arm64": "amd64"}[architecture]
    tools.ldcache.ld_so_cache(root, other, *arguments, "stable release version 2.36")


def test_only_known_architectures(tools):
    with pytest.raises(tools.program.ToolError, match="riscv64"):
        tools.ldcache.ld_so_cache(tools.ldcache.Root(tools.rootfs.Table()), "riscv64", {}, {}, "version 2.41")


def test_before_2_33_the_cache_is_plain(tools):
    """No string is shared, no extension follows, glibc-hwcaps is unknown; the newer kernel's library comes first."""
    entry = tools.rootfs.Entry
    table = tools.rootfs.Table()
    objects = {}
    for path, soname, kernel in [
        ("opt/l/libx.so.1", "libx.so.1", 0x020600),
        ("usr/lib/libx.so.1", "libx.so.1", 0x030200),
        ("usr/lib/liby.so.2", "liby.so.2", 0),
        ("usr/lib/glibc-hwcaps/one/libx.so.1", "libx.so.1", 0),
    ]:
        table.add(entry(path, "file", 0o644))
        objects[path] = tools.elf.SharedObject(path, 64, 62, soname, 0, kernel)
    table.add_parents()
    cache = tools.ldcache.ld_so_cache(
        tools.ldcache.Root(table),
        "amd64",
        objects,
        {"etc/ld.so.conf": "/opt/l"},
        "stable release version 2.31",
    )
    libraries = [
        (b"liby.so.2", b"/usr/lib/liby.so.2", 0),
        (b"libx.so.1", b"/usr/lib/libx.so.1", 0x030200),
        (b"libx.so.1", b"/opt/l/libx.so.1", 0x020600),
    ]
    strings = b"".join(soname + b"\0" + path + b"\0" for soname, path, _ in libraries)
    place = 48 + 24 * len(libraries)
    header = b"glibc-ld.so.cache1.1" + struct.pack("<IIB3xI12x", len(libraries), len(strings), 2, 0)
    entries = b""
    for soname, path, kernel in libraries:
        value = place + len(soname) + 1
        entries += struct.pack("<iIIIQ", 0x0303, place, value, kernel, 0)
        place = value + len(path) + 1
    assert cache == header + entries + strings


def test_the_oldest_kernel_is_read_from_the_abi_note(tools, make_elf):
    data = bytearray(make_elf("libx.so.1", 2))
    # The third segment, until now of properties, becomes one of notes: "GNU", ABI tag, Linux 3.2.0.
    note = struct.pack("<III4sIIII", 4, 16, 1, b"GNU\0", 0, 3, 2, 0)
    struct.pack_into("<IIQQQQQQ", data, 64 + 56 * 2, 4, 4, len(data), 0, 0, len(note), len(note), 4)
    data += note
    found = tools.elf.shared_object("x", lambda offset, size: bytes(data[offset : offset + size]))
    assert (found.kernel, found.isa_level) == (0x030200, 0)
