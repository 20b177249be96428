"""Maintainer scripts whose text can't be read: what they do is told by running them apart from everything."""

import contextlib
import os
import secrets
from pathlib import Path

import pytest

from tests.machine import need
from tests.server.conftest import wait_until
from tungstenkit.debian.deb import open_files

SYSTEM = {"kind": "system", "alternatives": True, "ld-so-cache": False, "architecture": "amd64"}
LOOP = """#!/bin/sh -e
[ "$1" = configure ] && [ -z "$2" ]
for tool in one two; do
  manual=
  man=/usr/share/man/man1
  [ ! -e $man/$tool.1.gz ] || manual="--slave $man/x.1.gz x.1.gz $man/$tool.1.gz"
  update-alternatives --install /usr/bin/$tool $tool "/usr/lib/our/${tool%o}" $((40 + 2)) $manual
done
"""
VIM = """#!/bin/sh
divert() { dpkg-divert --package vim-runtime --add --rename --divert "$1.tiny" "$1"; }
[ "$1" = install ] && divert /usr/share/help.txt
"""


@pytest.fixture(scope="session")
def busybox(frozen, tmp_path_factory):
    """Debian's, of the frozen archive."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    (deb, *_) = frozen.archive.folder.glob(f"debian/pool/**/busybox-static_*_{architecture}.deb")
    found = tmp_path_factory.mktemp("busybox") / "busybox"
    with deb.open("rb") as file, open_files(file, deb.name) as members:
        program = next(one for one in members if one.name.endswith("bin/busybox"))
        found.write_bytes(members.extractfile(program).read())
    found.chmod(0o755)
    need("namespaces")
    return str(found)


@pytest.fixture
def layer_of(run_tool, busybox, tmp_path):
    """A layer as `image.nix` asks for it: the folder, and the message where there is none."""
    count = iter(range(100))

    def make(*inputs):
        out = tmp_path / f"run-{next(count)}"
        config = {"created-by": "x", "python": None, "lower": [], "inputs": list(inputs), "busybox": busybox}
        result = run_tool("layer.py", config, out)
        assert (result.returncode == 0) == out.exists()
        return out, result.stderr

    return make


@pytest.fixture
def choices(layer_of, tools):
    """What update-alternatives would be told by a package's postinst, as (path, choice, priority, slaves)."""

    def read(deb):
        out, error = layer_of(deb)
        assert not error
        found = tools.program.read_json(out / "files.json")["alternatives"]
        return [
            (
                one["master"]["link"],
                one["master"]["path"],
                one["priority"],
                [s["path"] for s in one["slaves"]],
            )
            for one in found
        ]

    return read


def test_a_loop_is_run_with_the_packages_own_files(make_deb, choices):
    deb = make_deb("p", [("usr/share/man/man1/two.1.gz", b"")], scripts={"postinst": LOOP})
    assert choices(deb) == [
        ("usr/bin/one", "usr/lib/our/one", 42, []),
        ("usr/bin/two", "usr/lib/our/tw", 42, ["usr/share/man/man1/two.1.gz"]),
    ]


def test_nothing_of_the_package_is_executed(make_deb, choices, tmp_path):
    """Its programs are there and succeed, and so does what other packages have; files are only its own."""
    trace = tmp_path / "trace"
    script = f"""#!/bin/sh
set -e
[ -x /usr/bin/own ] && /usr/bin/own
adduser --system nobody-else
chown nobody-else /usr/share/p
[ ! -e /etc/passwd ] && [ ! -e {tmp_path} ]
dpkg --compare-versions "$2" lt-nl 2.0 && exit 1
for i in x; do update-alternatives --install /usr/bin/$i $i /usr/bin/own 5; done
"""
    own = f"#!/bin/sh\ntouch {trace}\n".encode()
    deb = make_deb("p", [("usr/bin/own", own, 0o755), ("usr/share/p", b"")], scripts={"postinst": script})
    assert choices(deb) == [("usr/bin/x", "usr/bin/own", 5, [])]
    assert not trace.exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("i=$(py3versions -d)", "py3versions -d"),
        ("i=$(uname -m)", "uname"),
        ("dpkg-query -s y && i=x", "dpkg-query -s y"),
        ("dpkg --compare-versions 1.0 lt 2.0 && i=x", "dpkg --compare-versions 1.0 lt 2.0"),
        (". /usr/bin/own", "the text of a program"),
        ("/usr/lib/other/tool; i=x", "/usr/lib/other/tool: not found"),
        (". /usr/share/debconf/confmodule", "confmodule"),
        ("declare -A i", "declare: not found"),
    ],
)
def test_what_nobody_can_know_is_an_error_that_names_the_package(make_deb, layer_of, line, reason):
    script = (
        f"#!/bin/bash -e\ni=\ni=$i\n{line}\nupdate-alternatives --install /usr/bin/$i $i /usr/bin/own 5\n"
    )
    members = [("usr/bin/own", b"exit 0", 0o755)]
    _, error = layer_of(make_deb("odd", members, scripts={"postinst": script}))
    assert error.startswith("error: package odd: cannot tell what its script means by '/usr/bin/$i'")
    assert reason in error


def test_a_script_of_another_language_is_an_error(make_deb, layer_of):
    script = "#!/usr/bin/perl\nexec update-alternatives --install /usr/bin/$i x /usr/bin/y 5;\n"
    _, error = layer_of(make_deb("p", [], scripts={"postinst": script}))
    assert "it is no script of the shell: #!/usr/bin/perl" in error


def test_packages_that_are_read_are_not_run(make_deb, layer_of, make_layer):
    script = "update-alternatives --install /usr/bin/x x /usr/bin/y 5\nexit 1\n"
    deb = make_deb("p", [("usr/bin/y", b"")], scripts={"postinst": script})
    with_busybox, error = layer_of(deb)
    assert not error
    without = make_layer(deb, created_by="x").path
    for file in without.iterdir():
        assert (with_busybox / file.name).read_bytes() == file.read_bytes()


def test_a_diversion_moves_what_other_packages_of_the_layer_ship(make_deb, layer_of, make_layer):
    runtime = make_deb("vim-runtime", [("usr/share/help.txt", b"long")], scripts={"preinst": VIM})
    tiny = make_deb("vim-tiny", [("usr/share/help.txt", b"short")])
    for inputs in ((runtime, tiny), (tiny, runtime)):
        out, error = layer_of(*inputs)
        assert not error
        layer = type(make_layer())(out)
        assert layer.read("usr/share/help.txt") == b"long"
        assert layer.read("usr/share/help.txt.tiny") == b"short"


def test_a_diversion_across_layers_is_an_error(make_deb, layer_of, make_layer, layer_error):
    runtime, _ = layer_of(make_deb("vim-runtime", [], scripts={"preinst": VIM}))
    tiny = make_layer(make_deb("vim-tiny", [("usr/share/help.txt", b"")])).path
    other = make_layer(make_deb("other", [("usr/share/x", b"")])).path
    make_layer(SYSTEM, lower=[runtime, other])  # nobody has the file
    error = layer_error(SYSTEM, lower=[str(tiny), str(runtime)])
    assert "package vim-runtime diverts that of vim-tiny" in error


@pytest.mark.parametrize("arguments", ["/x", "--add --no-rename --divert /y /x", "--local --rename /x"])
def test_a_diversion_whose_outcome_is_open_is_an_error(make_deb, layer_of, arguments):
    _, error = layer_of(make_deb("odd", [], scripts={"preinst": f"#!/bin/sh\ndpkg-divert {arguments}\n"}))
    assert "package odd: its scripts divert files, which is not supported" in error


def test_a_diversion_of_an_upgrade_is_none(make_deb, layer_of, tools):
    script = '#!/bin/sh\nif [ -n "$2" ]; then dpkg-divert --add --no-rename --divert /y /x; fi\n'
    out, error = layer_of(make_deb("p", [], scripts={"preinst": script}))
    assert not error
    assert "diversions" not in tools.program.read_json(out / "files.json")


def test_it_sees_no_process_but_its_own(make_deb, choices):
    script = """#!/bin/sh
set -- /proc/[0-9]*
for i in x; do update-alternatives --install /usr/bin/$i $i /usr/bin/own $#; done
"""
    deb = make_deb("p", [("usr/bin/own", b"", 0o755)], scripts={"postinst": script})
    ((_, _, processes, _),) = choices(deb)
    assert 1 <= processes <= 3


@pytest.mark.parametrize(("end", "seconds"), [("exit 0", 120), ("while :; do :; done", 1)])
def test_whatever_it_starts_ends_with_it(tools, busybox, monkeypatch, end, seconds):
    """And it ends itself, in time."""
    monkeypatch.setattr(tools.scriptrun, "_SECONDS", seconds)
    stays = f"sleep 4{secrets.randbelow(10**9)}"
    run = tools.scriptrun.ScriptRun("p", "amd64", [], busybox)
    script = f"#!/bin/sh\n/.tungsten/busybox {stays} &\n{end}\n"
    if seconds == 1:
        with pytest.raises(tools.program.ToolError, match="does not end within 1 s"):
            run.calls(script, "postinst")
    else:
        assert run.calls(script, "postinst") == ([], [])
    words = b"\0".join(os.fsencode(word) for word in stays.split())
    wait_until(lambda: not any(words in command for command in commands()), "the end of all processes")


def commands():
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "cmdline").read_bytes()
