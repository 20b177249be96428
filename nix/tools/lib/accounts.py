"""The accounts of a base image, and the one more that our images run as (passwd(5), group(5))."""

from __future__ import annotations

USER = "nonroot"
UID = 65532
_ROOT = ("root:x:0:0:root:/root:/sbin/nologin\n", "root:x:0:\n")


def with_user(passwd: str, group: str) -> tuple[str, str]:
    """The texts of /etc/passwd and /etc/group, as they are where somebody has our user's number already."""
    passwd, group = passwd or _ROOT[0], group or _ROOT[1]
    users = [line.split(":") for line in passwd.splitlines()]
    if not any(fields[2:3] == [str(UID)] for fields in users):
        # A user of that name with another number stays who they are.
        name = USER if all(fields[0] != USER for fields in users) else "tungsten"
        passwd = f"{_ended(passwd)}{name}:x:{UID}:0:{name}:/home/nonroot:/sbin/nologin\n"
    groups = [line.split(":") for line in group.splitlines()]
    if not any(fields[2:3] == ["0"] for fields in groups):
        group = f"{_ended(group)}{_ROOT[1]}"
    return passwd, group


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"
