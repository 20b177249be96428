#!/usr/bin/env python3
"""Make the folder of a development shell: `shell_programs.py CONFIG.json OUT`.

OUT's `bin` has a program for each of the image's that its user asked for; each runs the image's own, by
`enter_shell.py`. `python`, `python3` and `python3.N` are the model's, whatever a base image calls so. What every Debian
system has itself (packages that are essential or required: Debian policy, 2.5 and 3.8) stays the machine's. OUT's
`start` runs a command, or the user's own shell, with that folder first on PATH, and
OUT's `env` sets the same variables in a shell that reads it.

CONFIG: `root`, the image's unpacked root; `interpreter`, a path in it, and its `version`, `3.N`; `variables`, the
image's; `busybox`, `python` (a command) and `program` (`enter_shell.py`), to run it by; `name`, the model's.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from program import Config, read_json, run

_RUN = """{python} -I -S -B -X pycache_prefix={out}/cache -c 'import sys
sys.path.insert(0, "{out}")
from enter_shell import main
main(sys.argv[1:])'"""

_ENTER = """\
#!{busybox} sh
# What the machine's loader and Python are told is not for ours; nor are packages in ~/.local, which would come first.
unset LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT PYTHONHOME
export PYTHONNOUSERSITE=1
{exports}
case "${{0##*/}}" in
  {pythons}) set -- {interpreter} "$@" ;;
  *) set -- "${{0##*/}}" "$@" ;;
esac
exec {run} {root} "$@"
"""

_ENV = """\
export TUNGSTEN_SHELL={out}
export TUNGSTEN_MODEL_PYTHON={out}/bin/python3
unset PYTHONPATH PYTHONHOME
case "$PATH" in {out}/bin:*) ;; *) export PATH={out}/bin:"$PATH" ;; esac
"""

# By the machine's shell: busybox would take its own `ls` for the user's.
_START = """\
#!/bin/sh
(unset LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT; exec {run} --check) || exit
. {out}/env
if [ $# -gt 0 ]; then exec "$@"; fi
echo {title} >&2
# After the user's own start files, which may put other programs first.
case "${{SHELL:-/bin/sh}}" in
  */bash) exec "$SHELL" --rcfile {out}/bashrc -i ;;
  */zsh) TUNGSTEN_ZDOTDIR="${{ZDOTDIR:-$HOME}}" ZDOTDIR={out}/zsh exec "$SHELL" -i ;;
  */fish) exec "$SHELL" --init-command 'set -gx PATH {out}/bin $PATH' -i ;;
  *) exec "${{SHELL:-/bin/sh}}" -i ;;
esac
"""

_BASHRC = """\
if [ -e ~/.bashrc ]; then . ~/.bashrc; fi
. {out}/env
PS1="({name}) $PS1"
"""

_ZSHENV = """\
if [ -e "$TUNGSTEN_ZDOTDIR/.zshenv" ]; then . "$TUNGSTEN_ZDOTDIR/.zshenv"; fi
"""

_ZSHRC = """\
ZDOTDIR="$TUNGSTEN_ZDOTDIR"
if [ -e "$ZDOTDIR/.zshrc" ]; then . "$ZDOTDIR/.zshrc"; fi
. {out}/env
PS1="({name}) $PS1"
"""


def make_shell(config_path: Path, out: Path) -> None:
    """Make the folder."""
    config = read_json(config_path)
    root = Path(config["root"])
    pythons = ["python", "python3", f"python{config['version']}"]
    names = {*programs(root, config["variables"]["PATH"]), *pythons}
    python = shlex.join(config["python"])
    # Other names, which a base image may have, no shell can set.
    exports = (
        f"export {name}={shlex.quote(value)}"
        for name, value in sorted(config["variables"].items())
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    )
    values = {
        "busybox": config["busybox"],
        "root": root,
        "run": _RUN.format(python=python, out=out),
        "exports": "\n".join(exports),
        "out": out,
        "pythons": " | ".join(pythons),
        "interpreter": shlex.quote(config["interpreter"]),
        "name": config["name"],
        "title": shlex.quote(f"{config['name']}: {config['title']}; `exit` leaves the shell"),
    }
    (out / "bin").mkdir(parents=True)
    (out / "zsh").mkdir()
    _copy_program(config, out)
    texts = {
        "enter": _ENTER,
        "env": _ENV,
        "start": _START,
        "bashrc": _BASHRC,
        "zsh/.zshenv": _ZSHENV,
        "zsh/.zshrc": _ZSHRC,
    }
    for name, text in texts.items():
        (out / name).write_text(text.format_map(values), "utf-8")
    for name in ("enter", "start"):
        (out / name).chmod(0o755)
    for name in names:
        (out / "bin" / name).symlink_to("../enter")


def _copy_program(config: Config, out: Path) -> None:
    """Put `enter_shell.py` there, and the byte-code of all that it imports: three quarters of a start's time."""
    program = out / "enter_shell.py"
    shutil.copyfile(config["program"], program)
    # As the store will have it: byte-code counts for a source of one time.
    os.utime(program, (1, 1))
    command = [*config["python"], "-I", "-S", "-X", f"pycache_prefix={out}/cache", "-c"]
    script = f"import sys; sys.path.insert(0, {str(out)!r}); import enter_shell"
    subprocess.run([*command, script], check=True)


def programs(root: Path, path: str) -> list[str]:
    """Names of the programs in a root that its user asked for, where its PATH leads."""
    systems = _of_every_system(root)
    found = set()
    for folder in dict.fromkeys(_inside(root, entry) for entry in path.split(":")):
        if folder is None or not folder.is_dir():
            continue
        for entry in folder.iterdir():
            file = _inside(root, "/" + entry.relative_to(root).as_posix())
            if file is None or not file.is_file() or not os.access(file, os.X_OK):
                continue
            if file.relative_to(root).as_posix() not in systems:
                found.add(entry.name)
    return sorted(found)


def _of_every_system(root: Path) -> set[str]:
    """The files of packages that every Debian system has, as paths without the first `/`."""
    status = root / "var/lib/dpkg"
    texts = [
        path.read_text("utf-8")
        for path in sorted((status / "status.d").glob("*"))
        if path.suffix != ".md5sums"
    ]
    if (status / "status").is_file():
        texts += (status / "status").read_text("utf-8").split("\n\n")
    files = set()
    for text in texts:
        if not re.search(r"^(Essential: yes|Priority: required)$", text, re.MULTILINE):
            continue
        name = re.search(r"^Package: (.+)$", text, re.MULTILINE)
        if name is None:
            continue
        for sums in (status / f"status.d/{name[1]}.md5sums", status / f"info/{name[1]}.md5sums"):
            if sums.is_file():
                listed = (line.split(None, 1)[1] for line in sums.read_text("utf-8").splitlines())
                files |= {re.sub(r"^(bin|sbin|lib)/", r"usr/\1/", one) for one in listed}
    return files


def _inside(root: Path, path: str) -> Path | None:
    """Where a path leads for who has `root` as root; None where its links go in a circle."""
    done, todo = root, path.split("/")
    links = 0
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = done if done == root else done.parent
            continue
        entry = done / part
        if not entry.is_symlink():
            done = entry
            continue
        links += 1
        if links > 40:
            return None
        target = entry.readlink().as_posix()
        if target.startswith("/"):
            done = root
        todo[:0] = target.split("/")
    return done


if __name__ == "__main__":
    run(make_shell, "CONFIG.json OUT")
