"""What an image lacks, as the dynamic loader would find out; what is added for it, and what is only told."""

import json
from importlib import resources

import pytest

from tests.binaries import AARCH64, deb, elf, wheel
from tungstenkit.platforms import Target
from tungstenkit.resolve.libraries import Image, additions, packages_for
from tungstenkit.resolve.scan import scan_deb, scan_wheel

TARGET = Target("x86_64-linux", "bookworm", "3.11")
LIB = "usr/lib/x86_64-linux-gnu"
SUFFIX = ".cpython-311-x86_64-linux-gnu.so"
DEBIAN = {"libGL.so.1": ("libgl1",), "liba.so.1": ("liba1",), "libzbar.so.0": ("libzbar0",)}


@pytest.fixture
def image(tmp_path):
    """An image of wheels and Debian packages, each given as its files; a wheel's name may say what it requires."""

    def make(wheels=(), debs=(), links=()):
        scans = {}
        for number, (name, files) in enumerate(dict(wheels).items()):
            project, *requires = name.split()
            scans[project] = scan_wheel(
                wheel(tmp_path / str(number) / "w-1-py3-none-any.whl", files, requires)
            )
        packages = {
            name: scan_deb(deb(tmp_path / f"{name}.deb", files, links)) for name, files in dict(debs).items()
        }
        return Image(TARGET, scans, packages)

    return make


def module(*needed, **options):
    return elf(*needed, module="m", **options)


def chosen(image, settings=()):
    found = additions(image, dict(settings), lambda: DEBIAN)
    return {choice.subject: choice.chosen for choice in found.choices}


def test_what_nobody_has_is_taken_from_debian_with_the_reason(image):
    found = additions(image({"cv": {f"m{SUFFIX}": module("libGL.so.1")}}), {}, lambda: DEBIAN)
    (choice,) = found.choices
    assert (choice.kind, choice.subject, choice.chosen) == ("library", "cv needs libGL.so.1", "libgl1")
    assert choice.reason == f"m{SUFFIX} is linked against it"
    assert packages_for(found.choices) == {"libgl1": "library: libGL.so.1 of cv"}


def test_where_nothing_is_missing_debians_contents_are_not_read(image):
    found = additions(image({"a": {f"m{SUFFIX}": module()}}), {}, lambda: pytest.fail("read"))
    assert found.choices == ()


@pytest.mark.parametrize(
    "library",
    ["libcuda.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1", "libGLX_nvidia.so.0"],
)
def test_the_drivers_own_come_from_the_driver(image, library):
    assert chosen(image({"torch": {f"m{SUFFIX}": module(library)}})) == {}


def test_one_that_debian_has_not_is_told(image):
    found = additions(image({"a": {f"m{SUFFIX}": module("libcublas.so.12")}}), {}, lambda: DEBIAN)
    assert packages_for(found.choices) == {}
    (choice,) = found.choices
    assert choice.subject == "a needs libcublas.so.12"
    assert choice.reason == f"no package of Debian bookworm has it; m{SUFFIX} is linked against it"


class TestTheLoadersSearch:
    @pytest.mark.parametrize(
        ("files", "links"),
        [
            ({f"{LIB}/liba.so.1": elf()}, {}),
            ({"lib/x86_64-linux-gnu/liba.so.1": elf()}, {}),
            ({"usr/lib/liba.so.1": elf()}, {}),
            ({f"{LIB}/liba.so.1.2": elf(soname="liba.so.1")}, {f"{LIB}/liba.so.1": "liba.so.1.2"}),
            ({f"{LIB}/x/liba.so.1": elf()}, {f"{LIB}/liba.so.1": "/etc/alternatives/liba.so.1"}),
        ],
    )
    def test_the_roots_own_folders(self, image, files, links):
        assert chosen(image({"a": {f"m{SUFFIX}": module("liba.so.1")}}, {"d": files}, links)) == {}

    def test_not_one_of_another_processor(self, image):
        root = {"d": {f"{LIB}/liba.so.1": elf(machine=AARCH64)}}
        assert chosen(image({"a": {f"m{SUFFIX}": module("liba.so.1")}}, root)) == {
            "a needs liba.so.1": "liba1"
        }

    @pytest.mark.parametrize("tag", ["rpath", "runpath"])
    @pytest.mark.parametrize("folder", ["$ORIGIN/../b.libs", "${ORIGIN}/../b.libs"])
    def test_an_rpath_into_another_wheel(self, image, tag, folder):
        wheels = {
            "a": {f"a/m{SUFFIX}": module("liba.so.1", **{tag: folder})},
            "b": {"b.libs/liba.so.1": elf()},
        }
        assert chosen(image(wheels)) == {}

    def test_an_rpath_counts_for_what_is_loaded_and_a_runpath_does_not(self, image):
        def wheels(**path):
            return {
                "a": {f"m{SUFFIX}": module("libb.so.1", **path), "a.libs/libb.so.1": elf("liba.so.1")},
                "c": {"other/liba.so.1": elf()},
            }

        assert chosen(image(wheels(rpath="$ORIGIN/other"))) == {}
        assert chosen(image(wheels(runpath="$ORIGIN/other"))) == {"a needs liba.so.1": "liba1"}

    def test_the_prefix_below_which_data_is_installed(self, image):
        wheels = {
            "a": {f"m{SUFFIX}": module("libmkl.so.2", runpath="$ORIGIN/../../..")},
            "mkl": {"w-1.data/data/lib/libmkl.so.2": elf()},
        }
        assert [need.by for need in image(wheels).missing()[0]] == ["a"]
        wheels["a"] = {f"m{SUFFIX}": module("libmkl.so.2", runpath="$ORIGIN/../..")}
        assert image(wheels).missing()[0] == []

    def test_what_the_wheel_itself_may_have_loaded_before(self, image):
        assert (
            chosen(
                image(
                    {"a": {f"m{SUFFIX}": module("liba.so.1"), "a.libs/liba-1234.so": elf(soname="liba.so.1")}}
                )
            )
            == {}
        )

    def test_what_a_wheel_that_it_requires_may_have_loaded_before(self, image):
        wheels = {
            "vision Middle": {f"m{SUFFIX}": module("libtorch.so")},
            "middle torch": {},
            "torch": {"torch/lib/libtorch.so": elf()},
        }
        assert chosen(image(wheels)) == {}

    def test_not_what_another_wheel_has(self, image):
        wheels = {"a": {f"m{SUFFIX}": module("liba.so.1")}, "b": {"b.libs/liba.so.1": elf()}}
        assert chosen(image(wheels)) == {"a needs liba.so.1": "liba1"}

    def test_what_debian_has_not_is_left_to_a_wheel_that_has_it(self, image):
        wheels = {
            "audio": {f"m{SUFFIX}": module("libtorch.so"), "plugin.so": elf("libtorch.so")},
            "torch": {"torch/lib/libtorch.so": elf()},
        }
        assert chosen(image(wheels)) == {}

    def test_cuda_comes_from_its_wheels(self, image):
        wheels = {
            "onnx": {f"m{SUFFIX}": module("libcublas.so.12")},
            "nvidia-cublas-cu12": {"nvidia/cublas/lib/libcublas.so.12": elf()},
        }
        assert chosen(image(wheels)) == {}

    def test_a_needed_path_is_taken_as_it_is(self, image):
        files = {f"m{SUFFIX}": module("$ORIGIN/x/libx.so"), "x/libx.so": elf()}
        assert chosen(image({"a": files})) == {}
        assert chosen(image({"a": {f"m{SUFFIX}": module("/opt/x/libx.so")}})) == {
            "a needs /opt/x/libx.so": "nothing"
        }


class TestReach:
    def test_what_a_needed_library_needs_is_needed(self, image):
        files = {
            f"m{SUFFIX}": module("libb.so", rpath="$ORIGIN"),
            "libb.so": elf("libc.so", rpath="$ORIGIN"),
            "libc.so": elf("liba.so.1"),
        }
        assert chosen(image({"a": files})) == {"a needs liba.so.1": "liba1"}

    def test_libraries_that_need_each_other_come_to_an_end(self, image):
        files = {
            f"m{SUFFIX}": module("libb.so"),
            "libb.so": elf("libd.so"),
            "libd.so": elf("libb.so", "liba.so.1"),
        }
        assert chosen(image({"a": files})) == {"a needs liba.so.1": "liba1"}

    def test_a_program_and_a_library_that_the_code_names_count(self, image):
        assert chosen(image({"a": {"a/bin/tool": elf("liba.so.1", program=True)}})) == {
            "a needs liba.so.1": "liba1"
        }
        files = {"a/lib/lib_gbm.so": elf("liba.so.1"), "a/__init__.py": "CDLL('lib_gbm.so')"}
        assert chosen(image({"a": files})) == {"a needs liba.so.1": "liba1"}

    def test_what_only_plugins_need_is_told_and_not_added(self, image):
        found = additions(
            image({"qt": {"qt/plugins/libqxcb.so": elf("libGL.so.1", "liba.so.1")}}), {}, lambda: DEBIAN
        )
        (choice,) = found.choices
        assert (choice.subject, choice.chosen) == ("what only plugins of qt need", "nothing")
        assert choice.reason.startswith("libGL.so.1 (libgl1), liba.so.1 (liba1); ")
        assert "qt/plugins/libqxcb.so" in choice.reason
        assert found.notices == ()

    def test_a_debian_package_may_lack_something_too(self, image):
        assert chosen(image({}, {"d": {"usr/bin/d": elf("liba.so.1", program=True)}})) == {
            "d needs liba.so.1": "liba1"
        }

    def test_plugins_of_debian_packages_are_debians_business(self, image):
        assert chosen(image({}, {"d": {f"{LIB}/d/plugin.so": elf("liba.so.1")}})) == {}


class TestSettings:
    @pytest.mark.parametrize(("setting", "taken"), [("mesa", "mesa"), (False, "nothing")])
    def test_another_package_may_be_named_or_none(self, image, setting, taken):
        lacking = image({"cv": {f"m{SUFFIX}": module("libGL.so.1")}})
        found = additions(lacking, {"libGL.so.1": setting}, lambda: DEBIAN)
        (choice,) = found.choices
        assert (choice.subject, choice.chosen) == ("cv needs libGL.so.1", taken)
        assert choice.reason == "[tool.tungsten.libraries] says so"
        assert found.notices == ()

    def test_what_a_plugin_needs_may_be_added(self, image):
        lacking = {"qt": {"qt/plugins/libqxcb.so": elf("libGL.so.1", "liba.so.1")}}
        assert chosen(image(lacking), {"libGL.so.1": "libgl1"}) == {
            "qt needs libGL.so.1": "libgl1",
            "what only plugins of qt need": "nothing",
        }
        assert chosen(image(lacking), {"libGL.so.1": "libgl1", "liba.so.1": False}) == {
            "qt needs libGL.so.1": "libgl1"
        }


class TestOpenedWhileRunning:
    def test_a_known_project_gets_what_it_opens(self, image):
        assert chosen(image({"pyzbar": {}})) == {"pyzbar needs libzbar.so.0": "libzbar0"}

    def test_not_where_the_image_has_it(self, image):
        assert chosen(image({"pyzbar": {}}, {"libzbar0": {f"{LIB}/libzbar.so.0": elf()}})) == {}

    def test_not_where_the_wheel_brings_its_own(self, image):
        assert chosen(image({"soundfile": {"_soundfile_data/libsoundfile_x86_64.so": elf()}})) == {}

    def test_of_several_versions_the_releases_own_is_taken(self, image):
        debian = {"libopenslide.so.0": ("libopenslide0",), "libopenslide.so.0.4.1": ("libopenslide0",)}
        found = additions(image({"openslide-python": {}}), {}, lambda: debian)
        assert [choice.subject for choice in found.choices] == ["openslide-python needs libopenslide.so.0"]

    def test_a_program_is_suggested(self, image):
        found = additions(image({"pydub": {}}), {}, lambda: DEBIAN)
        assert found.choices == ()
        assert found.notices == (
            "pydub starts ffmpeg to read and write anything but WAV: where you use that, add it to system_packages",
        )
        assert additions(image({"pydub": {}}, {"ffmpeg": {}}), {}, lambda: DEBIAN).notices == ()

    def test_the_table_is_in_order(self):
        text = (resources.files("tungstenkit.resolve") / "opened_libraries.json").read_text()
        for project, entry in json.loads(text)["projects"].items():
            assert project == project.lower().replace("_", "-")
            assert entry.keys() <= {"libraries", "programs"}
            assert entry
