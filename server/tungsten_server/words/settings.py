"""What the operator decides: read once, from the command line and the environment, into one frozen record.

A flag wins over its environment variable, which wins over the default. `max_batch_size` alone has a third
source
between the two: the model's spec. Nothing else in the server reads the environment.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Mapping, Sequence


_MAX_SECONDS = 20 * 86400
"""A socket's timeout is at most 2**31 milliseconds, which is 24 days."""


class SettingsError(ValueError):
    """Settings that can't be used; its text lists every problem, one a line."""


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError
    return value


def _count_from_zero(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= _MAX_SECONDS:  # false for nan too
        raise ValueError
    return value


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError
    return path


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise ValueError
    return path.resolve()


def _program(text: str) -> Path:
    found = shutil.which(text)
    if found is None:
        raise ValueError
    return Path(
        found
    ).absolute()  # the model process starts in another folder; not resolved: a venv's Python is a link


def _text(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _texts(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if not all(found):
        raise ValueError
    return found


def _hosts(text: str) -> tuple[str, ...]:
    found = _texts(text)
    if any(set(host) & set("/:@ []") for host in found):  # an address needs no mention
        raise ValueError
    return found


def _origins(text: str) -> tuple[str, ...]:
    found = _texts(text)
    for origin in found:
        parts = urlsplit(origin)
        plain = f"{parts.scheme}://{parts.netloc}".lower()
        if origin != "*" and (origin != plain or not parts.hostname or "@" in parts.netloc):
            raise ValueError
    return found


def _switch(text: str) -> bool:
    return {
        "1": True,
        "true": True,
        "on": True,
        "yes": True,
        "0": False,
        "false": False,
        "off": False,
        "no": False,
    }[text.lower()]


def _networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    import ipaddress  # few servers need it

    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))


_SERVICE = re.compile(r"(tcp|udp|sctp)://")
"""What Kubernetes sets as NAME_PORT for each service of a namespace: one called `tungsten` is not meant for us."""

_COUNT = "a whole number, at least 1"
_DURATION = "seconds, above 0 and at most 20 days"


def _how(
    summary: str, parse: Callable[[str], object], wanted: str, env: str | None = None
) -> dict[str, object]:
    """Say how a setting is given; its flag is its name."""
    return {"summary": summary, "parse": parse, "wanted": wanted, "env": env}


@dataclass(frozen=True)
class Settings:
    """The server's settings. The docstring below each says why its default is what it is."""

    spec: Path = field(metadata=_how("the model's spec.json", _file, "a file"))

    host: str = field(
        default="",
        metadata=_how(
            "address to listen on (default: all of them, IPv4 and IPv6)", _text, "an address", "TUNGSTEN_HOST"
        ),
    )
    """All addresses: in a container, what may reach the port is the engine's decision."""

    port: int = field(
        default=3000,
        metadata=_how("port to listen on; 0 takes a free one", _port, "a port, 0 to 65535", "TUNGSTEN_PORT"),
    )
    """The port that existing clients know."""

    listen_fd: int | None = field(
        default=None,
        metadata=_how(
            "file descriptor of a socket that listens already, in place of --host and --port",
            _count_from_zero,
            "a number, at least 0",
        ),
    )
    """None; given where one server takes another one's place and no client is to notice."""

    handover_fd: int | None = field(
        default=None,
        metadata=_how(
            "file descriptor of a socket to who has started the server: it gets a line once the model is ready, clients"
            " are taken once it gives one, and it is closed when no more are",
            _count_from_zero,
            "a number, at least 0",
        ),
    )
    """None; given with --listen-fd, so that one server stops taking clients before the next one begins."""

    max_batch_size: int | None = field(
        default=None,
        metadata=_how(
            "most inputs in one call of predict (default: the spec's batch-size)",
            _positive,
            _COUNT,
            "TUNGSTEN_MAX_BATCH_SIZE",
        ),
    )
    """None, for the spec's: the model's author knows what fits into memory."""

    model_dir: Path = field(
        default=Path("/app"),
        metadata=_how("the model's folder", _folder, "a folder"),
    )
    """Where the image holds the model's files."""

    model_python: Path = field(
        default=Path("/usr/bin/python3"),
        metadata=_how("the model's Python", _program, "a program that can be run"),
    )
    """The image's Python, which sees the model's packages; not the server's own."""

    setup_timeout: float = field(
        default=3600.0,
        metadata=_how("seconds that setup may take", _seconds, _DURATION, "SETUP_TIMEOUT"),
    )
    """An hour: the largest weights from slow storage, with room to spare."""

    max_setups: int = field(
        default=5,
        metadata=_how("failed setups in a row that end the server", _positive, _COUNT, "TUNGSTEN_MAX_SETUPS"),
    )
    """Five: by then the cause is not a passing one."""

    prediction_timeout: float = field(
        default=7200.0,
        metadata=_how("seconds that one call of predict may take", _seconds, _DURATION, "PREDICTION_TIMEOUT"),
    )
    """Two hours, as existing deployments have it: a limit for hangs, not for latency."""

    queue_timeout: float = field(
        default=7200.0,
        metadata=_how(
            "seconds that an input may wait for the model", _seconds, _DURATION, "TUNGSTEN_QUEUE_TIMEOUT"
        ),
    )
    """Two hours, too, and a limit of its own: who waits behind a call that hangs is not to blame for it."""

    max_pending: int = field(
        default=256,
        metadata=_how(
            "predictions accepted and not yet answered, beyond which a client gets 503",
            _positive,
            _COUNT,
            "TUNGSTEN_MAX_PENDING",
        ),
    )
    """Each may hold a thread: four times the 64 that keep batches of 16 full."""

    max_body: int = field(
        default=256 * 1024 * 1024,
        metadata=_how("largest request body in bytes", _positive, _COUNT, "TUNGSTEN_MAX_BODY"),
    )
    """256 MiB: minutes of full-HD video as base64. Reading a body takes about four times its size."""

    max_inputs: int = field(
        default=1024,
        metadata=_how("inputs in one request", _positive, _COUNT, "TUNGSTEN_MAX_INPUTS"),
    )
    """64 full batches of 16: what more one answer would gain is lost to those that wait behind it."""

    max_file: int = field(
        default=192 * 1024 * 1024,
        metadata=_how("bytes of one file in an input", _positive, _COUNT, "TUNGSTEN_MAX_FILE"),
    )
    """192 MiB: what a body of the default size holds as base64, so that both ways of sending carry the same."""

    allow_urls: bool = field(
        default=False,
        metadata=_how(
            "fetch files that inputs name by http(s) address", _switch, "on or off", "TUNGSTEN_ALLOW_URLS"
        ),
    )
    """Off: a server that fetches what strangers name is a way into its network."""

    allow_url_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = field(
        default=(),
        metadata=_how(
            "networks that files may be fetched from although they are not public, such as 10.1.0.0/16,fd00::/8",
            _networks,
            "a list of networks, separated by commas",
            "TUNGSTEN_ALLOW_URL_NETWORKS",
        ),
    )
    """None: what only this machine reaches is not for its clients."""

    allow_host: tuple[str, ...] = field(
        default=(),
        metadata=_how(
            "names by which clients may call the server, beside localhost and any address; where it listens on a "
            "loopback address alone, or this is given, other names are refused; * lets all pass",
            _hosts,
            "a list of names without ports, separated by commas",
            "TUNGSTEN_ALLOW_HOST",
        ),
    )
    """None: by which names an image is called, only its operator knows; on loopback it is localhost."""

    allow_origins: tuple[str, ...] = field(
        default=(),
        metadata=_how(
            "origins of other web pages that may call the server, such as https://app.example.org; * allows all",
            _origins,
            "a list of origins in lower case, as https://host:port, separated by commas",
            "TUNGSTEN_ALLOW_ORIGINS",
        ),
    )
    """None: what a page sends without asking is refused, unless it is the server's own page."""

    url_timeout: float = field(
        default=60.0,
        metadata=_how(
            "seconds in which the files of a request must be fetched",
            _seconds,
            _DURATION,
            "TUNGSTEN_URL_TIMEOUT",
        ),
    )
    """A minute: a file of the largest size at 25 Mbit/s. A client waits for it before its request is accepted."""

    max_pixels: int = field(
        default=178_956_970,
        metadata=_how(
            "pixels of an image that the model reads with Pillow", _positive, _COUNT, "TUNGSTEN_MAX_PIXELS"
        ),
    )
    """Where Pillow itself refuses: 512 MiB as RGB."""

    max_waiting_bytes: int = field(
        default=512 * 1024 * 1024,
        metadata=_how(
            "bytes of request bodies accepted and not yet answered, beyond which a client gets 503",
            _positive,
            _COUNT,
            "TUNGSTEN_MAX_WAITING_BYTES",
        ),
    )
    """Two bodies of the largest size: one may be read while another one runs."""

    max_result: int = field(
        default=256 * 1024 * 1024,
        metadata=_how("bytes of JSON in one prediction's outputs", _positive, _COUNT, "TUNGSTEN_MAX_RESULT"),
    )
    """As much as a request may have: models that change files return about what they get."""

    result_expiration: float = field(
        default=3600.0,
        metadata=_how(
            "seconds that the result of an asynchronous prediction is kept",
            _seconds,
            _DURATION,
            "RESULT_EXPIRATION",
        ),
    )
    """An hour, as existing deployments have it."""

    max_results_bytes: int = field(
        default=512 * 1024 * 1024,
        metadata=_how(
            "bytes that kept results may take, beyond which the oldest are forgotten",
            _positive,
            _COUNT,
            "TUNGSTEN_MAX_RESULTS_BYTES",
        ),
    )
    """Two results of the largest size, or thousands of pictures: small beside a model's weights."""

    workers: int = field(
        default=1,
        metadata=_how("model processes", _positive, _COUNT, "TUNGSTEN_WORKERS"),
    )
    """One: each has the model in memory, and most models use all cores or the whole GPU already."""

    stop_timeout: float = field(
        default=25.0,
        metadata=_how(
            "seconds to answer what was accepted, once told to stop",
            _seconds,
            _DURATION,
            "TUNGSTEN_STOP_TIMEOUT",
        ),
    )
    """Just below the 30 s that Kubernetes grants between SIGTERM and SIGKILL."""


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings from the command line (without the program's name) and the environment.

    An empty environment variable counts as unset. Defaults are checked like given values: the image's paths
    may be missing elsewhere. Raises SettingsError, and SystemExit as argparse does (`--help`: 0, an unknown
    flag: 2).
    """
    parser = argparse.ArgumentParser(
        prog="python -m tungsten_server", description="Serve one model over HTTP.", allow_abbrev=False
    )
    for setting in fields(Settings):
        env = f" [{setting.metadata['env']}]" if setting.metadata["env"] else ""
        known = setting.default not in (MISSING, None, False, (), "")
        default = f" (default: {setting.default})" if known else ""
        is_switch = setting.metadata["parse"] is _switch
        parser.add_argument(
            _flag(setting.name),
            metavar="X",
            help=setting.metadata["summary"] + default + env,
            # A switch may stand alone.
            nargs="?" if is_switch else None,
            const="on" if is_switch else None,
        )
    given = vars(parser.parse_args(argv))

    values: dict[str, Any] = {}
    problems = []
    for setting in fields(Settings):
        env = setting.metadata["env"]
        if given[setting.name] is not None:
            source, text = _flag(setting.name), given[setting.name]
        elif env and environ.get(env) and not (env == "TUNGSTEN_PORT" and _SERVICE.match(environ[env])):
            source, text = env, environ[env]
        elif setting.default is MISSING:
            problems.append(f"{_flag(setting.name)} is missing")
            continue
        elif isinstance(setting.default, os.PathLike):
            source, text = f"{_flag(setting.name)} (default)", str(setting.default)
        else:
            values[setting.name] = setting.default
            continue
        try:
            values[setting.name] = setting.metadata["parse"](text)
        except (KeyError, ValueError):
            problems.append(f"{source} is not {setting.metadata['wanted']}: {text!r}")
    if problems:
        raise SettingsError("\n".join(problems))
    return Settings(**values)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
