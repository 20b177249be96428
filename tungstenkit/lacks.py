"""What a machine may lack: what does not work then, and what mends it, on which Linux.

It is said here alone: the hints of errors and `tungsten doctor` read it. Commands are for a shell, as they stand.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Linux:
    """What a remedy depends on."""

    name: str = "Linux"
    """As the system calls itself."""
    family: str = ""
    """Whose commands it has: `debian`, `ubuntu`, `fedora`, `arch`, or empty for none of these."""
    container: str = ""
    """Whose container it is in: `podman`, `docker`, `kubernetes`, another name; empty for none."""
    wsl: int = 0
    """Which version of Windows' subsystem for Linux this is; 0 for none."""


FAMILIES = ("debian", "ubuntu", "fedora", "arch")


def this_linux(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Linux:
    """The Linux that we run on. root: where its files are."""
    said: dict[str, str] = {}
    for path in ("etc/os-release", "usr/lib/os-release"):  # os-release(5): the first that is there
        if text := _text(root / path):
            said = {name: value.strip("\"'") for name, value in re.findall(r"(?m)^([A-Z_]+)=(.*)$", text)}
            break
    names = [said.get("ID", ""), *said.get("ID_LIKE", "").split()]
    version = _text(root / "proc/version").lower()
    return Linux(
        name=said.get("PRETTY_NAME") or said.get("NAME") or "Linux",
        family=next((name for name in names if name in FAMILIES), ""),
        container=_container(root, environ),
        # The kernel of version 2 is a real one, and says so (`…-microsoft-standard-WSL2`).
        wsl=0 if "microsoft" not in version else 2 if "wsl2" in version or "standard" in version else 1,
    )


def _container(root: Path, environ: Mapping[str, str]) -> str:
    """podman and docker leave a file in theirs; others tell systemd (its document CONTAINER_INTERFACE)."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    for path, name in (("run/.containerenv", "podman"), (".dockerenv", "docker")):
        if (root / path).exists() and not _is_a_disk(root):
            return name
    told = _text(root / "run/systemd/container").strip()
    return "" if told == "wsl" else told or environ.get("container", "")


def _is_a_disk(root: Path) -> bool:
    """Whether what is mounted at `/` is all of a disk (proc(5), "mountinfo"): a machine may be made of an image."""
    found = re.search(r"(?m)^\d+ \d+ \S+ (\S+) / .* - \S+ (\S+) ", _text(root / "proc/self/mountinfo"))
    return found is not None and found[1] == "/" and found[2].startswith("/dev/")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Remedy:
    """What mends a lack."""

    command: str = ""
    """For a shell; empty where words are all there is."""
    says: str = ""
    """Beside the command, or in its place."""
    as_root: bool = False

    def __str__(self) -> str:
        """As a hint has it."""
        root = " as root" if self.as_root else ""
        return ", ".join(filter(None, [self.command and f"`{self.command}`{root}", self.says]))


def hint(remedies: Iterable[Remedy], between: str = " and ") -> str:
    """Remedies in the words of a hint."""
    return between.join(map(str, remedies))


@dataclass(frozen=True)
class Lack:
    """Something that a machine may lack."""

    name: str
    means: str
    """What does not work then."""
    is_needed: bool = False
    """Whether every build needs it."""


PYTHON = Lack("Python", "files can't be unpacked, or code can't be kept apart", is_needed=True)
PLATFORM = Lack(
    "processor", "tungsten has no Nix of its own for it, and builds no image on it", is_needed=True
)
NAMESPACES = Lack(
    "user namespaces",
    "nothing is built: the sandbox, and programs that run in the image's own root, need them; and no module is read but"
    " with --trust",
    is_needed=True,
)
NIX = Lack("Nix", "nothing is fetched or built", is_needed=True)
BUILD_USERS = Lack(
    "build users", "root builds nothing: what runs in a build must not be root", is_needed=True
)
SANDBOX = Lack("sandbox", "nothing is built", is_needed=True)
STORE = Lack("room for the store", "builds end in the middle", is_needed=True)
TEMPORARY = Lack("room for temporary files", "builds end in the middle", is_needed=True)
CACHE = Lack("room for the cache", "what mirrors list can't be kept, so nothing is locked", is_needed=True)
RUN_TEMPORARY = Lack(
    "programs in the temporary folder", "what is built from source can't run there what it builds"
)
MEMORY = Lack("memory", "build steps run one at a time, and a large one may be killed")
ENGINE = Lack(
    "container engine",
    "images are not loaded, and can't be run by their names; `serve`, `demo` and `predict` run a folder's image in"
    " its own root",
)
CONTAINERS = Lack(
    "containers", "`serve`, `demo` and `predict` of an image fail; --no-engine runs a folder's without"
)
GPU = Lack("GPU", "models with gpu=True are built here, and run elsewhere, or with --no-gpu")
GPU_CONTAINERS = Lack("GPU in containers", "`serve`, `demo` and `predict` start no model that wants a GPU")
DEBIAN = Lack("Debian's archive", "nothing is locked, and Debian packages are not fetched", is_needed=True)
DEBIAN_MIRROR = Lack(
    "mirror of Debian's archive", "packages come from Debian's snapshot service, which is slow"
)
PYTHON_INDEX = Lack("Python index", "nothing is locked, and wheels are not fetched", is_needed=True)
NPM = Lack("npm's registry", "an export is not built by Nix alone, without `tungsten fetch`")
CERTIFICATES = Lack(
    "certificates", "servers are not believed, so nothing is locked or fetched from them", is_needed=True
)
PROXY = Lack("proxy", "nothing is reached that lies behind it")
CLOCK = Lack(
    "clock", "certificates and Debian's signed indexes seem expired, or not valid yet", is_needed=True
)
PROGRAMS = {
    "git": Lack("git", "`python_packages` takes no git URL, and `lock --against` compares with no commit"),
    "skopeo": Lack("skopeo", "`push` and `base_image` fail"),
    "zstd": Lack("zstd", "base images with layers of zstd are not read"),
}


# Programs

_INSTALLS = {
    "debian": "apt-get install",
    "ubuntu": "apt-get install",
    "fedora": "dnf install",
    "arch": "pacman -S",
}
_PACKAGES = {
    # Where a package is not called as what it is asked for by (packages' own pages; shadow's newuidmap(1)).
    "newuidmap": {"debian": "uidmap", "ubuntu": "uidmap", "fedora": "shadow-utils", "arch": "shadow"},
}


def installing(program: str, linux: Linux | None = None) -> Remedy:
    """What installs a program. podman's, skopeo's and git's own documents have one name for each everywhere."""
    linux = linux or this_linux()
    if (install := _INSTALLS.get(linux.family)) is None:
        return Remedy(says=f"install {program} by this system's package manager")
    if linux.container and install.startswith("apt"):
        # Images have no lists of packages; and nobody is there to be asked.
        install = f"apt-get update && {install} -y"
    return Remedy(f"{install} {_PACKAGES.get(program, {}).get(linux.family, program)}", as_root=True)


# User namespaces

_FEWEST = 8
"""Of user namespaces, which lie four deep in a build step; steps that run beside one another need more."""
_SETTINGS: Mapping[str, tuple[str, Callable[[int], bool]]] = {
    # Debian's kernels have the first, and Arch's; Ubuntu's since 23.10 the second (its release notes, and the AppArmor
    # project's "unprivileged userns restriction"); all the third (namespaces(7)).
    "kernel.unprivileged_userns_clone": ("1", lambda value: value == 0),
    "kernel.apparmor_restrict_unprivileged_userns": ("0", lambda value: value == 1),
    "user.max_user_namespaces": ("100000", lambda value: value < _FEWEST),
}
_GRANTS = {
    # podman-run(1): seen with podman 4.3. docker: "systempaths" as BuildKit's document on its rootless mode has it, and
    # its default profile of AppArmor forbids mounts. Kubernetes: "procMount" and "seccompProfile" of a securityContext.
    "podman": "--security-opt seccomp=unconfined --security-opt unmask=ALL",
    "docker": "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt"
    " systempaths=unconfined",
}
NAMESPACES_IN_A_CONTAINER = (
    f"start it with --privileged, or in podman with {_GRANTS['podman']}, and where you are root in it --cap-add"
    " SYS_ADMIN, too"
)
"""How a container's engine grants the namespaces that builds need, whichever it is; in the words of a hint."""


def forbidding_settings(settings: Path = Path("/proc/sys")) -> list[str]:
    """The kernel's settings that forbid user namespaces. settings: where they are (proc(5))."""
    found = []
    for name, (_, forbids) in _SETTINGS.items():
        value = _text(settings.joinpath(*name.split("."))).strip()
        if value.isdecimal() and forbids(int(value)):
            found.append(name)
    return found


def allowing_namespaces(linux: Linux | None = None, settings: Path = Path("/proc/sys")) -> list[Remedy]:
    """What allows user namespaces here, all of it together; for a masked /proc, too."""
    linux = linux or this_linux()
    if linux.wsl == 1:
        return [
            Remedy("wsl --set-version NAME 2", "in Windows, with the distribution's name (`wsl -l`) as NAME")
        ]
    if names := forbidding_settings(settings):
        there = "where the container's engine runs" if linux.container else ""
        return [Remedy(f"sysctl -w {name}={_SETTINGS[name][0]}", there, as_root=True) for name in names]
    return [granting_namespaces(linux)] if linux.container else []


def granting_namespaces(linux: Linux) -> Remedy:
    """How who starts the container that we are in grants them."""
    if linux.container == "kubernetes":
        return Remedy(
            says="give the pod's container `securityContext: {privileged: true}`, or `procMount: Unmasked` and"
            " `seccompProfile: {type: Unconfined}` with `hostUsers: false`"
        )
    if options := _GRANTS.get(linux.container):
        more = " --cap-add SYS_ADMIN" if os.geteuid() == 0 else ""
        return Remedy(says=f"start the container with {options}{more}, or with --privileged")
    return Remedy(says=f"start the container so that it may: {NAMESPACES_IN_A_CONTAINER}")


def namespaces_hint(linux: Linux | None = None, settings: Path = Path("/proc/sys")) -> str:
    """The same in the words of a hint; where nothing is known to forbid them, what may."""
    if remedies := allowing_namespaces(linux, settings):
        return hint(remedies)
    return (
        f"in a container: {NAMESPACES_IN_A_CONTAINER}; elsewhere one of the settings "
        + ", ".join(f"{name}={allows}" for name, (allows, _) in _SETTINGS.items())
        + " (sysctl, as root); `tungsten doctor` tries what is refused"
    )


# Container engines

ENGINE_ARGS = "TUNGSTEN_ENGINE_ARGS"
"""Names the arguments that the engine always needs on a machine."""
_EACH_TIME = f"; what this machine always needs may stand in {ENGINE_ARGS}"
_REFUSALS = (
    # The machine allows fewer open files or processes than the engine asks for.
    (re.compile("rlimit"), ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"), ""),
    (
        re.compile(
            r"netavark|aardvark|iptables|nft(?:ables)?\b|slirp4netns|pasta\b|bridge|veth|netns|network|/sys/net/",
            re.IGNORECASE,
        ),
        ("--network=host",),
        " goes without a network of the container's own",
    ),
)
"""By what an engine says that can't start a container: arguments with which it can, and what they do."""
# newuidmap(1), and podman's document "rootless tutorial".
_NO_IDS = re.compile(r"subuid|subgid|newuidmap|newgidmap|insufficient UIDs|not enough IDs", re.IGNORECASE)
_FIRST_ID, _IDS = 100_000, 65_536


def engine_arguments(said: str) -> tuple[str, ...]:
    """With which arguments an engine can start a container that it could not; empty where none are known."""
    return next((arguments for pattern, arguments, _ in _REFUSALS if pattern.search(said)), ())


def engine_hint(said: str) -> str | None:
    """What helps where an engine could not start a container. said: its own words."""
    for pattern, arguments, does in _REFUSALS:
        if pattern.search(said):
            return f"`{' '.join(f'--engine-arg={one}' for one in arguments)}`{does}{_EACH_TIME}"
    return ids_hint(said)


def ids_hint(said: str) -> str | None:
    """What helps where an engine lacks further ids of its user's. said: its own words."""
    return hint(remedies) if (remedies := giving_ids(said, os.environ.get("USER", ""))) else None


def giving_ids(said: str, user: str, linux: Linux | None = None, root: Path = Path("/")) -> list[Remedy]:
    """What gives a user the further ids that containers without root need, where an engine says that they lack.

    said: its own words. user: the user's name. root: where the system's files are.
    """
    if not _NO_IDS.search(said):
        return []
    given = [_text(root / "etc" / name) for name in ("subuid", "subgid")]
    remedies = [] if shutil.which("newuidmap") else [installing("newuidmap", linux)]
    if not all(re.search(rf"(?m)^{re.escape(user or ' ')}:", text) for text in given):
        # After those of others (subuid(5)).
        ends = [int(first) + int(many) for text in given for first, many in re.findall(r":(\d+):(\d+)", text)]
        first = max([_FIRST_ID, *ends])
        some, who = f"{first}-{first + _IDS - 1}", shlex.quote(user) if user else "USER"
        remedies.append(Remedy(f"usermod --add-subuids {some} --add-subgids {some} {who}", as_root=True))
    return [*remedies, Remedy("podman system migrate")]


def starting_docker(said: str, linux: Linux, user: str) -> Remedy:
    """What helps where docker is there and its daemon does not answer. said: docker's own words."""
    if "permission denied" in said.lower():
        # docker's document "Linux post-installation steps".
        who = shlex.quote(user) if user else "USER"
        return Remedy(
            f"usermod -aG docker {who}",
            "and sign in anew: who is in this group is as good as root",
            as_root=True,
        )
    if linux.wsl:
        return Remedy(
            says="start Docker Desktop, and turn on its integration with this distribution (Settings, Resources)"
        )
    if linux.container:
        return Remedy(says="start the container with the daemon's socket, or set DOCKER_HOST")
    return Remedy("systemctl start docker", as_root=True)


# GPUs


def installing_driver(linux: Linux) -> Remedy:
    """What installs NVIDIA's driver."""
    if linux.wsl:
        # NVIDIA, "CUDA on WSL User Guide".
        return Remedy(says="install NVIDIA's driver in Windows, and none in here")
    if linux.container:
        return Remedy(
            says="start the container with the GPU: podman's --device nvidia.com/gpu=all, docker's --gpus all"
        )
    commands = {
        # Debian's packages of it are in non-free; Ubuntu's tool chooses; Fedora's are RPM Fusion's; Arch's news on 590.
        "debian": ("apt-get install nvidia-driver", "with `contrib non-free` in apt's sources"),
        "ubuntu": ("ubuntu-drivers install", ""),
        "fedora": ("dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda", "with RPM Fusion's repositories"),
        "arch": ("pacman -S nvidia-open nvidia-utils", ""),
    }
    command, says = commands.get(
        linux.family, ("", "install NVIDIA's driver by this system's package manager")
    )
    return Remedy(
        command,
        ", ".join(filter(None, [says, "then start the machine anew" if command else ""])),
        bool(command),
    )


def giving_gpus(engine: str, linux: Linux) -> list[Remedy]:
    """What gives containers GPUs: NVIDIA's container toolkit, by its own documents."""
    made = {
        "podman": Remedy("nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", as_root=True),
        "docker": Remedy(
            "nvidia-ctk runtime configure --runtime=docker && systemctl restart docker", as_root=True
        ),
    }[engine]
    toolkit = installing("nvidia-container-toolkit", linux)
    if toolkit.command and linux.family != "arch":
        toolkit = Remedy(toolkit.command, "from NVIDIA's own repository", as_root=True)
    return [toolkit, made]


# The network


def trusting(linux: Linux | None = None) -> list[Remedy]:
    """What has a network's own authority trusted: each is enough."""
    system = {
        # update-ca-certificates(8); Fedora's "Using Shared System Certificates"; trust(1) of p11-kit.
        "debian": "cp FILE /usr/local/share/ca-certificates/own.crt && update-ca-certificates",
        "ubuntu": "cp FILE /usr/local/share/ca-certificates/own.crt && update-ca-certificates",
        "fedora": "cp FILE /etc/pki/ca-trust/source/anchors/own.pem && update-ca-trust",
        "arch": "trust anchor FILE",
    }.get((linux or this_linux()).family)
    users = [Remedy("export SSL_CERT_FILE=FILE"), Remedy("pip config set global.cert FILE")]
    return [*users, Remedy(system, "for all programs", as_root=True)] if system else users


def setting_clock(linux: Linux) -> Remedy:
    """What sets a wrong clock."""
    if linux.container:
        return Remedy(says="set the clock of the machine that the container runs on")
    if linux.wsl:
        return Remedy("hwclock -s", "after Windows has slept", as_root=True)  # WSL's issue 10006
    return Remedy("timedatectl set-ntp true", as_root=True)


def naming_mirrors(variable: str, what: str) -> Remedy:
    """What names a mirror, of which none is known by itself."""
    return Remedy(f"export {variable}=URL", f"with that of {what} as URL")


def making_room(*names: str, folder: Path | None) -> Sequence[Remedy]:
    """What moves files to another disk. names: variables that do. folder: one with room, where one is known."""
    where = str(folder) if folder else "FOLDER"
    return [
        Remedy(
            f"export {name}={shlex.quote(where)}",
            "" if folder else "with a folder of yours that has room as FOLDER",
        )
        for name in names
    ]
