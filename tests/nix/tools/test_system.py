"""What follows from all layers together: alternatives, the loader's cache, aliases, true modes of folders."""

import base64
import hashlib

import pytest

SYSTEM = {"kind": "system", "alternatives": True, "ld-so-cache": False, "architecture": "amd64"}
BANNER = b"GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n"


def links(layer):
    return {name: info.linkname for name, info in layer.members().items() if info.issym()}


def alternative(name, path, priority, more=""):
    return {
        "postinst": f"#!/bin/sh\nupdate-alternatives --install /usr/bin/{name} {name} {path} {priority} {more}\n"
    }


def test_the_highest_priority_wins_across_layers(make_deb, make_layer):
    one = make_layer(
        make_deb("mawk", [("usr/bin/mawk", b"")], scripts=alternative("awk", "/usr/bin/mawk", 5))
    )
    two = make_layer(make_deb("gawk", [("usr/bin/gawk", b"")], scripts=alternative("awk", "/bin/gawk", 10)))
    for lower in ((one.path, two.path), (two.path, one.path)):
        found = links(make_layer(SYSTEM, lower=lower))
        assert found["usr/bin/awk"] == "/etc/alternatives/awk"
        assert found["etc/alternatives/awk"] == "/usr/bin/gawk"  # not by way of /bin


def test_equal_priorities_go_by_path(make_deb, make_layer):
    one = make_deb("one", [("usr/bin/b", b"")], scripts=alternative("x", "/usr/bin/b", 5))
    two = make_deb("two", [("usr/bin/a", b"")], scripts=alternative("x", "/usr/bin/a", 5))
    for inputs in ((one, two), (two, one)):
        assert (
            links(make_layer(SYSTEM, lower=[make_layer(*inputs).path]))["etc/alternatives/x"] == "/usr/bin/a"
        )


def test_slaves_follow_their_master_if_they_exist(make_deb, make_layer):
    manual = "--slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz"
    more = f"--slave /usr/bin/nawk nawk /usr/bin/mawk {manual}"
    deb = make_deb("mawk", [("usr/bin/mawk", b"")], scripts=alternative("awk", "/usr/bin/mawk", 5, more))
    found = links(make_layer(SYSTEM, lower=[make_layer(deb).path]))
    assert found["etc/alternatives/nawk"] == "/usr/bin/mawk"
    assert "usr/share/man/man1/awk.1.gz" not in found


def test_a_choice_without_its_file_is_skipped(make_deb, make_layer):
    deb = make_deb("a", [("usr/bin/real", b"")], scripts=alternative("x", "/usr/bin/gone", 50))
    assert "usr/bin/x" not in links(make_layer(SYSTEM, lower=[make_layer(deb).path]))


def test_a_file_is_not_replaced_by_a_link(make_deb, make_layer):
    deb = make_deb(
        "a", [("usr/bin/x", b"mine"), ("usr/bin/y", b"")], scripts=alternative("x", "/usr/bin/y", 50)
    )
    assert "usr/bin/x" not in links(make_layer(SYSTEM, lower=[make_layer(deb).path]))


def test_an_argument_that_cannot_be_read_names_the_package(make_deb, layer_error):
    error = layer_error(make_deb("odd", [], scripts=alternative("$i", "/usr/bin/$i", 5)))
    assert error.startswith("package odd: ")
    assert "$i" in error


@pytest.mark.parametrize(
    "script",
    [
        "update-alternatives --quiet --install /usr/bin/x x /usr/bin/y 5 || true",
        "if [ 1 ]; then update-alternatives --install /usr/bin/x \\\n\tx \\\n /usr/bin/y 5; fi",
        "base=/usr/bin\nprio='5'\nupdate-alternatives --install $base/x x \"${base}/y\" $prio # comment $1",
        "/usr/bin/update-alternatives --remove x /usr/bin/z && update-alternatives --install /bin/x x /bin/y 5",
    ],
)
def test_shell_that_is_understood(tools, script):
    (found,) = tools.maintscripts.alternatives(script, "p")
    assert vars(found.master) == {"link": "usr/bin/x", "name": "x", "path": "usr/bin/y"}
    assert found.priority == 5


@pytest.mark.parametrize(
    "script",
    [
        "update-alternatives --install /usr/bin/x x $(which y) 5",
        "a=1\na=2\nupdate-alternatives --install /usr/bin/x x /usr/bin/y $a",
        "update-alternatives --install /usr/bin/x x",
        "update-alternatives --install /usr/bin/x x /usr/bin/y high",
        "update-alternatives --install '/usr/bin/x x /usr/bin/y 5",
    ],
)
def test_shell_that_is_not_understood(tools, script):
    with pytest.raises(tools.program.ToolError, match="package p"):
        tools.maintscripts.alternatives(script, "p")


def test_links_of_the_merged_usr(make_deb, make_layer):
    deb = make_deb("base-files", [("bin/sh", b""), ("lib/x", b""), ("sbin/y", b""), ("lib64/ld.so", b"")])
    layer = make_layer(SYSTEM, lower=[make_layer(deb).path])
    assert links(layer) == {
        "bin": "usr/bin",
        "lib": "usr/lib",
        "lib64": "usr/lib64",
        "sbin": "usr/sbin",
        "var/lock": "/run/lock",
        "var/run": "/run",
    }
    assert layer.members()["run/lock"].mode == 0o1777


def test_links_that_a_layer_has_are_not_made_again(make_layer):
    entry = {"path": "var/run", "type": "link", "target": "../run"}
    lower = make_layer({"kind": "files", "entries": [entry]})
    assert "var/run" not in links(make_layer(SYSTEM, lower=[lower.path]))


def test_true_modes_of_folders_are_stated_again(make_deb, make_layer):
    lower = make_layer(
        make_deb("a", [("var/local", None, 0o2775, 0, 50), ("etc/ssl/private", None, 0o700), ("usr", None)])
    )
    made = make_layer(SYSTEM, lower=[lower.path]).members()
    assert (made["var/local"].mode, made["var/local"].gid) == (0o2775, 50)
    assert made["etc/ssl/private"].mode == 0o700
    assert "usr" not in made


def test_the_cache_sees_libraries_through_alternatives(make_deb, make_elf, make_layer):
    """Where no package ships /etc/alternatives (Debian 13 without dpkg) the links must be followed all the same."""
    libc = make_deb("libc6", [("usr/lib/x86_64-linux-gnu/libc.so.6", make_elf("libc.so.6") + b"\0" + BANNER)])
    bin_conf = make_deb(
        "libc-bin",
        [
            ("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n"),
            ("etc/ld.so.conf.d/libc.conf", b"/usr/local/lib\n"),
        ],
    )
    script = (
        "update-alternatives --install /usr/lib/x86_64-linux-gnu/libblas.so.3 libblas.so.3-x86_64-linux-gnu"
        " /usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3 100\n"
    )
    blas = make_deb(
        "libopenblas0-pthread",
        [("usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3", make_elf("libblas.so.3"))],
        scripts={"postinst": script},
    )
    lower = [make_layer(libc).path, make_layer(bin_conf).path, make_layer(blas).path]
    system = {**SYSTEM, "ld-so-cache": True}
    cache = make_layer(system, lower=lower).read("etc/ld.so.cache")
    assert cache.startswith(b"glibc-ld.so.cache1.1")
    assert cache.endswith(b"ldconfig (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36")
    assert b"\0/lib/x86_64-linux-gnu/libblas.so.3\0" in cache
    without = make_layer({**system, "alternatives": False}, lower=lower).read("etc/ld.so.cache")
    assert b"libblas" not in without
    assert b"\0/lib/x86_64-linux-gnu/libc.so.6\0" in without


def test_no_cache_without_a_c_library(make_layer, layer_error):
    assert "libc.so.6" in layer_error({**SYSTEM, "ld-so-cache": True}, lower=[make_layer().path])


def test_java_trusts_what_the_system_trusts(make_deb, make_layer):
    """The keystore is what the scripts of ca-certificates-java would make: JKS (OpenJDK's JavaKeyStore)."""
    one, two = b"first", b"second certificate"
    pem = [
        b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % base64.b64encode(x)
        for x in (one, two)
    ]
    members = [(f"usr/share/ca-certificates/mozilla/{place}.crt", text) for place, text in enumerate(pem)]
    lower = [make_layer(make_deb("ca-certificates", members)).path]
    assert "etc/ssl/certs/java/cacerts" not in make_layer(SYSTEM, lower=lower).members()
    lower.append(make_layer(make_deb("ca-certificates-java", [("etc/ssl/certs/java", None)])).path)
    data = make_layer(SYSTEM, lower=lower).read("etc/ssl/certs/java/cacerts")
    assert data[:12] == bytes.fromhex("feedfeed 00000002 00000002")
    assert one in data
    assert two in data
    salted = "changeit".encode("utf-16-be") + b"Mighty Aphrodite" + data[:-20]
    assert data[-20:] == hashlib.sha1(salted).digest()
