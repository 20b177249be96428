"""Where a server listens, and what its clients call that."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tungstenkit.sdk.errors import RunError


@dataclass(frozen=True)
class Address:
    """Where a server listens: a free port of an address of this machine."""

    host: str
    port: int

    @classmethod
    def choose(cls, host: str, port: int) -> Address:
        """Resolve the host, and take a free port for 0. Raises RunError where it can't be listened on."""
        try:
            family, *_, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(found)
                return cls(str(found[0]), probe.getsockname()[1])
        except (OSError, OverflowError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else str(problem)
            raise RunError(
                f"can't listen there: {reason}",
                where=f"{host} port {port}",
                hint="-p chooses another port, and -p 0 a free one; --host an address of this machine",
            ) from None

    def listen(self) -> socket.socket:
        """Listen there."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.create_server((self.host, self.port), family=family, backlog=1024)

    @property
    def url(self) -> str:
        """The base URL for clients on this machine."""
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{self.bracketed(reached)}:{self.port}"

    @staticmethod
    def bracketed(host: str) -> str:
        """As URLs and engines want it (RFC 3986, section 3.2.2)."""
        return f"[{host}]" if ":" in host else host
