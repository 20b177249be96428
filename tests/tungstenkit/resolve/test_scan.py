"""What is read from ELF files, wheels and Debian packages, and that it is read once."""

import io
import resource
import struct
import sys
import tracemalloc
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.binaries import AARCH64, deb, elf, wheel
from tungstenkit.resolve import scan
from tungstenkit.resolve.elf import read_elf
from tungstenkit.resolve.scan import keep_scan, kept_scan, scan_deb, scan_wheel
from tungstenkit.sdk.errors import FetchError

SUFFIX = ".cpython-311-x86_64-linux-gnu.so"


class TestElf:
    def test_what_the_loader_reads_is_read(self):
        found = read_elf(
            io.BytesIO(
                elf("libc.so.6", "libz.so.1", soname="liba.so.2", rpath="$ORIGIN:/opt/x", machine=AARCH64)
            )
        )
        assert found.needed == ("libc.so.6", "libz.so.1")
        assert (found.soname, found.rpath, found.runpath) == ("liba.so.2", ("$ORIGIN", "/opt/x"), ())
        assert (found.machine, found.is_program, found.modules) == (AARCH64, False, ())

    def test_a_program_and_a_module_are_known(self):
        assert read_elf(io.BytesIO(elf(program=True))).is_program
        assert read_elf(io.BytesIO(elf(module="_speed"))).modules == ("_speed",)

    def test_this_machines_own_python_can_be_read(self):
        with Path(sys.executable).resolve().open("rb") as file:
            found = read_elf(file)
        assert found.is_program
        assert "libc.so.6" in found.needed

    @pytest.mark.parametrize("cut", [10, 64, 70, 120, 180])
    def test_a_damaged_file_is_none(self, cut):
        assert read_elf(io.BytesIO(elf("libc.so.6")[:cut])) is None

    def test_garbage_in_the_headers_is_none_or_harmless(self):
        whole = elf("libc.so.6", soname="a.so", module="a")
        for place in range(16, len(whole)):
            read_elf(io.BytesIO(whole[:place] + b"\xff" + whole[place + 1 :]))

    def test_a_size_that_the_file_has_not_asks_for_no_memory(self, tmp_path):
        whole = elf("libc.so.6", module="a")
        size = whole.index((10).to_bytes(8, "little"), 64) + 8  # of DT_STRSZ
        path = tmp_path / "a.so"
        path.write_bytes(whole[:size] + (1 << 62).to_bytes(8, "little") + whole[size + 8 :])
        with path.open("rb") as file:
            assert read_elf(file).modules == ("a",)

    @pytest.mark.parametrize("order", "<>")
    def test_one_of_32_bits_and_either_order_is_read(self, order):
        """As the ELF specification lays it out: header, two segments, names, dynamic section."""
        names = b"\0libc.so.6\0"
        start = 52 + 2 * 32
        tags = [(1, 1), (5, 0x1000 + start), (10, len(names)), (0, 0), (1, 99)]
        dynamic = b"".join(struct.pack(f"{order}iI", *tag) for tag in tags)
        place = start + len(names)
        header = struct.pack("4sBBB9x", b"\x7fELF", 1, "<>".index(order) + 1, 1)
        header += struct.pack(f"{order}HHIIIIIHHHHHH", 3, 8, 1, 0, 52, 0, 0, 52, 32, 2, 40, 0, 0)
        for kind, offset, size in ((1, 0, place), (2, place, len(dynamic))):
            header += struct.pack(f"{order}IIIIIIII", kind, offset, 0x1000 + offset, 0, size, size, 4, 4)
        found = read_elf(io.BytesIO(header + names + dynamic))
        assert (found.machine, found.needed, found.is_program) == (8, ("libc.so.6",), False)

    def test_names_may_stand_far_before_what_uses_them(self):
        assert read_elf(io.BytesIO(elf("libc.so.6", module="a", gap=5 << 20))).modules == ("a",)

    def test_more_needed_names_than_memory_holds_is_damage(self):
        assert read_elf(io.BytesIO(elf(*["a" * 100_000] * 11))) is None


class TestWheels:
    @pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    def test_damaged_members_are_told(self, tmp_path, method):
        path = tmp_path / "a-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("a.so", elf("libz.so.1") * 100)
        content = bytearray(path.read_bytes())
        content[45:65] = b"\xff" * 20
        path.write_bytes(content)
        with pytest.raises(FetchError, match="not a wheel"):
            scan_wheel(path)

    def test_an_encrypted_member_is_told(self, tmp_path):
        path = wheel(tmp_path / "a-1-py3-none-any.whl", {"a.so": elf()})
        content = bytearray(path.read_bytes())
        content[6] |= 1
        content[content.rindex(b"PK\1\2") + 8] |= 1
        path.write_bytes(content)
        with pytest.raises(FetchError, match=r"not a wheel: .* is encrypted"):
            scan_wheel(path)

    def test_of_endless_code_only_the_beginning_is_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tungstenkit.resolve.scan._MOST_TEXT", 100)
        files = {"liba.so": elf(), "libb.so": elf(), "x.py": b"'liba.so'" + b" " * 100 + b"'libb.so'"}
        scan = scan_wheel(wheel(tmp_path / "a-1-py3-none-any.whl", files))
        assert [f.is_loaded for f in scan.files] == [True, False]

    def test_every_elf_file_has_its_installed_place(self, tmp_path):
        scan = scan_wheel(
            wheel(
                tmp_path / "a-1-py3-none-any.whl",
                {
                    "a/x.so": elf(),
                    "a-1.data/platlib/y.so": elf(),
                    "a-1.data/data/lib/z.so": elf(),
                    "a-1.data/scripts/run": elf(program=True),
                    "a/text.so": b"INPUT(libx.so)",
                    "a/empty.so": b"",
                },
            )
        )
        assert [f.path for f in scan.files] == [
            "{prefix}/lib/z.so",
            "{site}/y.so",
            "{prefix}/bin/run",
            "{site}/a/x.so",
        ]

    @pytest.mark.parametrize(
        ("name", "content", "is_root"),
        [
            (f"a/speed{SUFFIX}", elf(module="speed"), True),
            ("a/speed.abi3.so", elf(module="speed"), True),
            ("speed.so", elf(module="speed"), True),
            (f"a/speed{SUFFIX}", elf(module="other"), False),
            ("a/speed.so", elf(), False),
            ("a/libspeed.so.1", elf(module="libspeed"), False),
            ("a/bin/tool", elf(program=True), True),
            ("a-1.data/scripts/tool", elf(program=True), True),
            ("a/libexec/tool", elf(program=True), False),
            ("a/bin/libx.so", elf(), False),
        ],
    )
    def test_what_can_be_imported_or_started_is_a_root(self, tmp_path, name, content, is_root):
        (file,) = scan_wheel(wheel(tmp_path / "a-1-py3-none-any.whl", {name: content})).files
        assert file.is_root is is_root

    @pytest.mark.parametrize(
        ("code", "is_loaded"),
        [
            ("ctypes.CDLL(path / 'lib_engine.so')", True),
            ('find("_engine")', True),
            ("load(f'{here}/lib_engine.so.1')", True),
            ("import _engine_else", False),
            ("load('lib_engine_else.so')", False),
            ("# lib_engine.so is not loaded", False),
        ],
    )
    def test_a_library_that_the_code_names_is_loaded(self, tmp_path, code, is_loaded):
        path = wheel(tmp_path / "a-1-py3-none-any.whl", {"a/lib/lib_engine.so": elf(), "a/__init__.py": code})
        (file,) = scan_wheel(path).files
        assert (file.is_root, file.is_loaded) == (False, is_loaded)

    def test_the_projects_that_it_requires_are_read(self, tmp_path):
        requires = ["Torch_Vision>=1", "numpy; extra == 'x'", "no requirement at all!"]
        scan = scan_wheel(wheel(tmp_path / "a-1-py3-none-any.whl", {}, requires))
        assert scan.requires == ("numpy", "torch-vision")

    def test_what_is_no_wheel_is_a_clear_error(self, tmp_path):
        (tmp_path / "a.whl").write_bytes(b"PK nothing")
        with pytest.raises(FetchError, match="not a wheel") as caught:
            scan_wheel(tmp_path / "a.whl")
        assert caught.value.where == "a.whl"


class TestDebs:
    def test_places_are_those_of_a_merged_usr(self, tmp_path):
        path = deb(
            tmp_path / "a.deb",
            {
                "lib/x86_64-linux-gnu/liba.so.1.2": elf(),
                "usr/bin/a": elf(program=True),
                "usr/share/doc": b"text",
            },
            {
                "lib/x86_64-linux-gnu/liba.so.1": "liba.so.1.2",
                "lib64/ld.so.2": "/lib/x86_64-linux-gnu/liba.so.1",
            },
        )
        scan = scan_deb(path)
        assert [(f.path, f.is_root) for f in scan.files] == [
            ("usr/bin/a", True),
            ("usr/lib/x86_64-linux-gnu/liba.so.1.2", False),
        ]
        assert scan.links == {
            "usr/lib/x86_64-linux-gnu/liba.so.1": "usr/lib/x86_64-linux-gnu/liba.so.1.2",
            "usr/lib64/ld.so.2": "usr/lib/x86_64-linux-gnu/liba.so.1",
        }

    def test_what_is_no_package_is_a_clear_error(self, tmp_path):
        for content in (b"", b"!<arch>\n", b"something else"):
            (tmp_path / "a.deb").write_bytes(content)
            with pytest.raises(FetchError, match="not a Debian package"):
                scan_deb(tmp_path / "a.deb")

    def test_a_package_that_is_cut_short_is_a_clear_error(self, tmp_path):
        path = deb(tmp_path / "a.deb", {"usr/bin/a": elf()})
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(FetchError, match="not a Debian package"):
            scan_deb(path)

    def test_a_negative_size_is_no_way_back(self, tmp_path):
        path = tmp_path / "a.deb"
        path.write_bytes(b"!<arch>\n" + b"x".ljust(48) + b"-60".ljust(10) + b"`\n")
        with pytest.raises(FetchError, match="size is negative"):
            scan_deb(path)


@contextmanager
def nothing_written():
    """No file of this process's can have a byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestBigMembers:
    """One library of CUDA's may have more bytes than a machine has memory free."""

    BIG = 96 << 20

    def test_a_wheels_is_read_as_it_comes_out_of_it(self, tmp_path):
        path = wheel(tmp_path / "a-1-py3-none-any.whl", {"a/libx.so": elf("libc.so.6", gap=self.BIG)})
        tracemalloc.start()
        try:
            with nothing_written():
                (file,) = scan_wheel(path).files
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert file.elf.needed == ("libc.so.6",)
        assert peak < self.BIG // 2

    def test_a_debs_are_read_one_at_a_time(self, tmp_path, monkeypatch):
        taken = []

        @contextmanager
        def alone():
            taken.append(1)
            yield

        monkeypatch.setattr(scan, "_ONE_BIG", alone())
        files = {
            "usr/lib/libbig.so": elf("libc.so.6", gap=self.BIG // 8),
            "usr/lib/libsmall.so": elf("libm.so.6"),
        }
        path = deb(tmp_path / "a.deb", files)
        with nothing_written():
            found = scan_deb(path).files
        assert [file.elf.needed for file in found] == [("libc.so.6",), ("libm.so.6",)]
        assert taken == [1]


class TestKeeping:
    def test_a_scan_is_kept_under_the_hash_of_what_was_read(self, tmp_path):
        scan = scan_wheel(wheel(tmp_path / "a-1-py3-none-any.whl", {"x.so": elf("libc.so.6")}))
        assert kept_scan("ab" * 32, tmp_path) is None
        keep_scan(scan, "ab" * 32, tmp_path)
        assert kept_scan("ab" * 32, tmp_path) == scan
        assert kept_scan("cd" * 32, tmp_path) is None

    def test_a_damaged_one_counts_as_none(self, tmp_path):
        scan = scan_wheel(wheel(tmp_path / "a-1-py3-none-any.whl", {"x.so": elf()}))
        keep_scan(scan, "ab" * 32, tmp_path)
        (file,) = (path for path in (tmp_path / "elf").rglob("*") if path.is_file())
        file.write_bytes(file.read_bytes()[:-5])
        assert kept_scan("ab" * 32, tmp_path) is None
        assert not file.exists()


def test_what_blows_up_is_refused_by_its_name_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "_ALWAYS_FINE", 1 << 20)
    path = tmp_path / "bomb-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.so", b"\x7fELF" + bytes(3 << 20))
    with pytest.raises(FetchError, match="unpacks to 3145732 bytes") as caught:
        scan_wheel(path)
    assert caught.value.where == path.name
