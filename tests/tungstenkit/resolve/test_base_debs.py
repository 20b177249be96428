"""What of a base image decides whether Debian packages can be installed into it."""

import pytest

from tungstenkit.resolve.base_debs import check_installable, read_system
from tungstenkit.sdk.errors import ResolveError

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'


def stanza(name, status="install ok installed", **fields):
    written = {"Package": name, "Status": status, "Version": "1", "Architecture": "amd64", **fields}
    return "\n".join(f"{key}: {value}" for key, value in written.items())


def read(*stanzas, os_release=DEBIAN, has_merged_usr=True):
    return read_system(os_release, "\n\n".join(stanzas), "amd64", has_merged_usr=has_merged_usr)


def test_what_is_installed_is_what_dpkg_says_is():
    system = read(
        stanza("a", Version="2:1-1", Depends="b (>= 1)"),
        stanza("left", "deinstall ok config-files"),
        stanza("held", "hold ok installed"),
    )
    assert (system.release, system.problem) == ("bookworm", "")
    assert {name: one.version for name, one in system.present.packages.items()} == {"a": "2:1-1", "held": "1"}
    assert system.present.held == {"held"}


@pytest.mark.parametrize(
    ("system", "problem", "hint"),
    [
        (read(stanza("a"), os_release="ID=ubuntu\nID_LIKE=debian"), "it is ubuntu", "base image of Debian"),
        (read(stanza("a"), os_release=""), "does not say that it is Debian", "base image of Debian"),
        (
            read(stanza("a"), os_release=DEBIAN.replace("=bookworm", "=buster")),
            "none of the releases",
            "bookworm",
        ),
        (read(stanza("a"), os_release="ID=debian"), "none of the releases", "trixie"),
        (read(), "no list of what is installed", "leave base_image out"),
        (read(stanza("a"), has_merged_usr=False), "/lib is no link", "leave base_image out"),
        (read(stanza("a", "install ok half-configured")), "a is only half installed", "dpkg --configure -a"),
        (read(stanza("a", Architecture="i386")), "a is of the architecture i386", "take another"),
        (read(stanza("a", Depends="not a (relation")), "a: a package can't be read", "take another"),
        (read(stanza("a", "install ok \x1b[1m")), "a is only half installed (?[1m)", "take another"),
        (
            read(stanza("a"), os_release="ID=alpine\nPRETTY_NAME='A \x1b[1m'"),
            "it is A ?[1m",
            "base image of Debian",
        ),
    ],
)
def test_what_nothing_can_be_installed_into_is_refused_with_the_reason(system, problem, hint):
    with pytest.raises(ResolveError) as caught:
        check_installable(system, "b:1", ["x", "y"])
    assert problem in caught.value.what
    assert "x, y can't be installed into b:1" in caught.value.what
    assert caught.value.where == "dockerfile_commands"
    assert hint in caught.value.hint
