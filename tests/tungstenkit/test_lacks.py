"""Which Linux this is, and what mends a lack on it."""

import shutil
import subprocess

import pytest

from tungstenkit import lacks
from tungstenkit.lacks import Linux, Remedy, this_linux

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nID=debian\n'
FAMILIES = {name: Linux(family=name) for name in lacks.FAMILIES}


def put(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("said", "name", "family"),
    [
        (DEBIAN, "Debian GNU/Linux 12 (bookworm)", "debian"),
        ('PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nID_LIKE=debian\n', "Ubuntu 24.04.1 LTS", "ubuntu"),
        ('NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n', "Linux Mint", "ubuntu"),
        ("NAME='Fedora Linux'\nID=fedora\n", "Fedora Linux", "fedora"),
        ('NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n', "Rocky Linux", "fedora"),
        ("NAME=Arch\nID=arch\n", "Arch", "arch"),
        ("NAME=Manjaro\nID=manjaro\nID_LIKE=arch\n", "Manjaro", "arch"),
        ('NAME="openSUSE"\nID=opensuse-leap\nID_LIKE="suse opensuse"\n', "openSUSE", ""),
        ("", "Linux", ""),
        ('ID="unfinished\nNAME=\n', "Linux", ""),
    ],
)
def test_the_distribution_is_known_by_what_it_says(tmp_path, said, name, family):
    found = this_linux(put(tmp_path, **{"etc__os-release": said}), {})
    assert (found.name, found.family) == (name, family)


def test_the_system_s_own_file_counts_where_etc_has_none(tmp_path):
    assert this_linux(put(tmp_path, **{"usr__lib__os-release": DEBIAN}), {}).family == "debian"


OVERLAY = "21 20 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/x\n"
DISK = "21 20 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"


@pytest.mark.parametrize(
    ("files", "environ", "container"),
    [
        ({}, {}, ""),
        ({"run___DOT_containerenv": "", "proc__self__mountinfo": OVERLAY}, {}, "podman"),
        ({"_DOT_dockerenv": "", "proc__self__mountinfo": OVERLAY}, {}, "docker"),
        # A machine that was made of an image.
        ({"_DOT_dockerenv": "", "proc__self__mountinfo": DISK}, {}, ""),
        ({"_DOT_dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"run__systemd__container": "lxc\n"}, {}, "lxc"),
        ({"run__systemd__container": "wsl\n"}, {}, ""),
        ({}, {"container": "oci"}, "oci"),
    ],
)
def test_a_container_is_known_by_what_its_engine_leaves_in_it(tmp_path, files, environ, container):
    assert this_linux(put(tmp_path, **files), environ).container == container


@pytest.mark.parametrize(
    ("version", "wsl"),
    [
        ("Linux version 6.1.0-28-amd64 (builder@example.org)", 0),
        ("Linux version 5.15.167.4-microsoft-standard-WSL2 (root@f9c826d3017f)", 2),
        ("Linux version 4.19.104-microsoft-standard (oe-user@oe-host)", 2),
        ("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)", 1),
    ],
)
def test_wsl_is_known_by_its_kernel(tmp_path, version, wsl):
    assert this_linux(put(tmp_path, proc__version=version), {}).wsl == wsl


@pytest.mark.parametrize(
    ("family", "command"),
    [
        ("debian", "apt-get install podman"),
        ("ubuntu", "apt-get install podman"),
        ("fedora", "dnf install podman"),
        ("arch", "pacman -S podman"),
    ],
)
def test_a_program_is_installed_as_the_system_does(family, command):
    assert lacks.installing("podman", Linux(family=family)) == Remedy(command, as_root=True)


def test_a_package_may_be_called_otherwise_than_its_program():
    commands = {family: lacks.installing("newuidmap", linux).command for family, linux in FAMILIES.items()}
    assert [command.split()[-1] for command in commands.values()] == [
        "uidmap",
        "uidmap",
        "shadow-utils",
        "shadow",
    ]


def test_an_image_s_apt_has_no_lists_and_nobody_to_ask():
    assert lacks.installing("git", Linux(family="debian", container="podman")).command == (
        "apt-get update && apt-get install -y git"
    )


def test_on_an_unknown_system_words_are_all_there_is():
    assert str(lacks.installing("git", Linux())) == "install git by this system's package manager"


@pytest.mark.parametrize(
    ("remedy", "said"),
    [
        (Remedy("a b"), "`a b`"),
        (Remedy("a b", as_root=True), "`a b` as root"),
        (Remedy("a b", "in a shell", as_root=True), "`a b` as root, in a shell"),
        (Remedy(says="wait"), "wait"),
    ],
)
def test_a_remedy_in_the_words_of_a_hint(remedy, said):
    assert str(remedy) == said


def settings(root, **values):
    """/proc/sys with these settings."""
    for name, value in values.items():
        put(root, **{name: f"{value}\n"})
    return root


@pytest.mark.parametrize(
    ("values", "commands"),
    [
        ({"kernel__unprivileged_userns_clone": 0}, ["sysctl -w kernel.unprivileged_userns_clone=1"]),
        (
            {"kernel__apparmor_restrict_unprivileged_userns": 1, "user__max_user_namespaces": 3},
            [
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
                "sysctl -w user.max_user_namespaces=100000",
            ],
        ),
        ({"kernel__unprivileged_userns_clone": 1, "user__max_user_namespaces": 63000}, []),
        ({"user__max_user_namespaces": "unreadable"}, []),
    ],
)
def test_the_settings_that_forbid_namespaces_are_changed_all_together(tmp_path, values, commands):
    found = lacks.allowing_namespaces(Linux(family="ubuntu"), settings(tmp_path, **values))
    assert [one.command for one in found] == commands
    assert all(one.as_root and not one.says for one in found)


def test_a_setting_of_a_container_s_kernel_is_changed_outside(tmp_path):
    (found,) = lacks.allowing_namespaces(
        Linux(container="docker"), settings(tmp_path, user__max_user_namespaces=0)
    )
    assert found.command.startswith("sysctl")
    assert "where the container's engine runs" in found.says


@pytest.mark.parametrize(
    ("container", "options"),
    [
        ("podman", "--security-opt seccomp=unconfined --security-opt unmask=ALL"),
        ("docker", "--security-opt systempaths=unconfined"),
        ("kubernetes", "procMount: Unmasked"),
        ("lxc", "--privileged"),
    ],
)
def test_each_kind_of_container_is_started_in_its_own_way(tmp_path, container, options):
    (found,) = lacks.allowing_namespaces(Linux(container=container), tmp_path)
    assert options in found.says


def test_the_first_wsl_has_no_linux(tmp_path):
    (found,) = lacks.allowing_namespaces(Linux(family="ubuntu", wsl=1), tmp_path)
    assert found.command == "wsl --set-version NAME 2"


def test_where_nothing_is_known_to_forbid_namespaces_the_hint_says_what_may(tmp_path):
    hint = lacks.namespaces_hint(Linux(), tmp_path)
    for part in ("unmask=ALL", "kernel.unprivileged_userns_clone=1", "tungsten doctor"):
        assert part in hint


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("error setting rlimit type 7", ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000")),
        ("netavark: iptables", ("--network=host",)),
        ("no such file", ()),
    ],
)
def test_an_engine_s_words_lead_to_the_arguments_that_it_needs(said, arguments):
    assert lacks.engine_arguments(said) == arguments
    hint = lacks.engine_hint(said)
    assert (hint is None) is (arguments == ())
    assert all(f"--engine-arg={one}" in hint for one in arguments)


NO_IDS = "potentially insufficient UIDs or GIDs available in user namespace"


def test_ids_for_containers_come_after_those_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    put(tmp_path, etc__subuid="other:100000:65536\n", etc__subgid="other:200000:65536\n")
    found = lacks.giving_ids(NO_IDS, "somebody", Linux(family="debian"), tmp_path)
    assert [one.command for one in found] == [
        "usermod --add-subuids 265536-331071 --add-subgids 265536-331071 somebody",
        "podman system migrate",
    ]
    put(tmp_path, etc__subuid="somebody:100000:65536\n", etc__subgid="somebody:100000:65536\n")
    (found,) = lacks.giving_ids(NO_IDS, "somebody", Linux(family="debian"), tmp_path)
    assert found.command == "podman system migrate"


def test_what_gives_ids_may_be_missing_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = lacks.giving_ids(NO_IDS, "", Linux(family="fedora"), tmp_path)
    assert [one.command.split()[0] for one in found] == ["dnf", "usermod", "podman"]
    assert found[1].command.endswith(" USER")
    assert lacks.giving_ids("something else", "", Linux(), tmp_path) == []


@pytest.mark.parametrize(
    ("said", "linux", "part"),
    [
        ("permission denied while trying to connect", Linux(), "usermod -aG docker somebody"),
        ("Cannot connect to the Docker daemon", Linux(wsl=2), "Docker Desktop"),
        ("Cannot connect to the Docker daemon", Linux(container="docker"), "socket"),
        ("Cannot connect to the Docker daemon", Linux(), "systemctl start docker"),
    ],
)
def test_a_docker_that_does_not_answer(said, linux, part):
    assert part in str(lacks.starting_docker(said, linux, "somebody"))


@pytest.mark.parametrize(
    ("linux", "part"),
    [
        (FAMILIES["debian"], "`apt-get install nvidia-driver` as root"),
        (FAMILIES["ubuntu"], "`ubuntu-drivers install` as root"),
        (FAMILIES["fedora"], "akmod-nvidia"),
        (FAMILIES["arch"], "nvidia-open"),
        (Linux(family="ubuntu", wsl=2), "in Windows"),
        (Linux(family="debian", container="docker"), "--gpus all"),
        (Linux(), "package manager"),
    ],
)
def test_the_gpu_s_driver(linux, part):
    assert part in str(lacks.installing_driver(linux))


def test_gpus_for_containers():
    toolkit, made = lacks.giving_gpus("podman", FAMILIES["arch"])
    assert (toolkit.command, toolkit.says) == ("pacman -S nvidia-container-toolkit", "")
    assert made.command == "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    toolkit, made = lacks.giving_gpus("docker", FAMILIES["fedora"])
    assert "NVIDIA's own repository" in toolkit.says
    assert "restart docker" in made.command


def test_an_authority_is_trusted_by_one_user_or_by_the_system():
    last = {family: lacks.trusting(linux)[-1].command for family, linux in FAMILIES.items()}
    assert [command.split()[-1] for command in last.values()] == [
        *("update-ca-certificates", "update-ca-certificates", "update-ca-trust", "FILE"),
    ]
    assert [one.command for one in lacks.trusting(Linux())] == [
        "export SSL_CERT_FILE=FILE",
        "pip config set global.cert FILE",
    ]


@pytest.mark.parametrize(
    ("linux", "part"),
    [(Linux(), "timedatectl"), (Linux(wsl=2), "hwclock -s"), (Linux(container="podman"), "runs on")],
)
def test_the_clock(linux, part):
    assert part in str(lacks.setting_clock(linux))


def remedies():
    """Every remedy that has a command, on each system."""
    for linux in (*FAMILIES.values(), Linux(), Linux(family="debian", container="docker"), Linux(wsl=2)):
        yield from (lacks.installing(name, linux) for name in ("podman", "newuidmap", *lacks.PROGRAMS))
        yield from (lacks.installing_driver(linux), lacks.setting_clock(linux), *lacks.trusting(linux))
        yield from (*lacks.giving_gpus("podman", linux), *lacks.giving_gpus("docker", linux))
        yield from (
            lacks.starting_docker("permission denied", linux, "a b"),
            lacks.starting_docker("", linux, ""),
        )
    yield from lacks.making_room("TMPDIR", folder=None)


def test_every_command_is_a_shell_s():
    """As far as a shell reads it without running it."""
    for command in {one.command for one in remedies()} - {""}:
        done = subprocess.run(["sh", "-nc", command], capture_output=True, text=True)
        assert (command, done.returncode, done.stderr) == (command, 0, "")
