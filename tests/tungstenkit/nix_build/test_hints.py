"""What is said of a failed build, by the words that compilers, linkers, shells and Python have for it."""

import re
import tomllib

import pytest

from tungstenkit.nix_build.hints import hint, package_of_program
from tungstenkit.sdk.errors import TungstenError

# By path the package that has it, as Debian's Contents have it.
FILES = {
    "usr/include/zlib.h": "zlib1g-dev",
    "usr/include/libxml2/libxml/xmlversion.h": "libxml2-dev",
    "usr/include/node/zlib.h": "libnode-dev",
    "usr/lib/x86_64-linux-gnu/libpq.so": "libpq-dev",
    "usr/lib/x86_64-linux-gnu/pkgconfig/libpq.pc": "libpq-dev",
    "usr/bin/cmake": "cmake",
    "usr/bin/swig": "swig",
    "usr/bin/pg_config": "libpq-dev",
    "usr/share/cmake": "nothing-of-it",
    "bin/sleep": "coreutils",
}
PROJECTS = {"setuptools", "numpy", "cython", "scikit-build", "probe"}


def found(pattern):
    return {path: name for path, name in FILES.items() if re.fullmatch(pattern, path)}


def said(log, undeclared=()):
    return hint(
        log,
        "native",
        found,
        PROJECTS.__contains__,
        undeclared,
    )


def pasted(hint):
    """The table of builds of a pyproject.toml that has nothing but what a hint says, as it is printed."""
    told = str(TungstenError("it failed", hint=hint)).partition("pyproject.toml:\n")[2]
    return tomllib.loads(told)["tool"]["tungsten"]["build"]


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("a.c:1:10: fatal error: zlib.h: No such file or directory", 'debs = ["zlib1g-dev"]'),
        ("x.c:3:10: fatal error: libxml/xmlversion.h: No such file or directory", 'debs = ["libxml2-dev"]'),
        ("/usr/bin/ld: cannot find -lpq: No such file or directory", 'debs = ["libpq-dev"]'),
        ("Package libpq was not found in the pkg-config search path.", 'debs = ["libpq-dev"]'),
        ("Package 'libpq', required by 'virtual:world', not found", 'debs = ["libpq-dev"]'),
        ("/bin/sh: 1: cmake: not found", 'debs = ["cmake"]'),
        ("sh: line 1: cmake: command not found", 'debs = ["cmake"]'),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", 'debs = ["cmake"]'),
        ("error: command 'swig' failed: No such file or directory", 'debs = ["swig"]'),
        ("Error: pg_config: not found", 'debs = ["libpq-dev"]'),
        ("ModuleNotFoundError: No module named 'pkg_resources'", 'requires = ["setuptools<81"]'),
        ("ModuleNotFoundError: No module named 'numpy.distutils'", 'requires = ["numpy"]'),
        ("ImportError: No module named Cython.Build", 'requires = ["cython"]'),
        ("backend skbuild can't be imported: No module named 'skbuild'", 'requires = ["scikit-build"]'),
    ],
)
def test_what_is_missing_is_named_with_a_line_to_paste(log, line):
    found = said(f"running build_ext\n{log}\n")
    assert pasted(found) == {"native": tomllib.loads(line)}


def test_what_nobody_has_is_not_promised():
    assert said("fatal error: odd.h: No such file or directory").startswith("no Debian package has odd.h")
    found = said("No module named 'odd'")
    assert found.startswith("no project of the Python index is called odd")
    assert pasted(found) == {"native": {"requires": ["PROJECT"]}}


def test_a_log_that_says_nothing_of_it_leads_to_no_hint():
    assert said("OSError: [Errno 101] Network is unreachable") is None
    assert said("FileNotFoundError: [Errno 2] No such file or directory: 'data/x.txt'") is None
    assert said("warning: manifest: not found") is None


def test_what_a_source_does_not_declare_can_be_pasted():
    found = said("whatever it says", ["probe>=1", "cython"])
    assert pasted(found) == {"native": {"requires": ["probe>=1", "cython"]}}


def test_the_package_of_a_program_is_looked_up():
    assert package_of_program("sleep", found) == "coreutils"
    assert package_of_program("cmake", found) == "cmake"
    assert package_of_program("make", found) is None
