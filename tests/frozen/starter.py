"""Starts the tests' command line hundreds of times without its imports: each start is a fork of one process that has
them all. What a start itself costs, and imports, is tested elsewhere (`tests/tungstenkit/cli/test_start.py`).

    python starter.py SOCKET

listens at SOCKET until its own input ends. A caller sends its request, JSON, with two files, which become the command's
output and errors; the answer is its exit status.
"""

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import tungstenkit

PROGRAM = Path(__file__).with_name("tungsten.py")


class Starter:
    """Runs commands as `subprocess.run` does, while it lasts."""

    def __init__(self, folder):
        """Start the process that is forked; its socket lies in a folder."""
        self._socket = str(folder / "starter")
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._process.stdout.readline()

    def run(self, arguments, environ):
        """Run a command line, in this process's folder; the finished process with what it printed, as text."""
        request = json.dumps({"arguments": arguments, "environ": environ, "folder": str(Path.cwd())}).encode()
        with (
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller,
        ):
            caller.connect(self._socket)
            socket.send_fds(caller, [len(request).to_bytes(4, "big")], [output.fileno(), errors.fileno()])
            caller.sendall(request)
            status = int(caller.makefile().read())
            said = [_text(file) for file in (output, errors)]
        return subprocess.CompletedProcess(arguments, status, *said)

    def stop(self):
        """End that process; the commands that it has started go on."""
        self._process.communicate()


def _text(file):
    file.seek(0)
    return file.read().decode()


def listen(path):
    """Fork for each caller; a child returns with what it is to run."""
    for module in pkgutil.walk_packages(tungstenkit.__path__, "tungstenkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        print("listening", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            ready, *_ = select.select([listener, sys.stdin], [], [])
            if listener not in ready:
                sys.exit()
            caller, _ = listener.accept()
            with caller:
                if os.fork():
                    continue
                listener.close()
                # The one that waits is not the zygote, which has others to start meanwhile.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                size, files, *_ = socket.recv_fds(caller, 4, 2)
                request = caller.makefile("rb").read(int.from_bytes(size, "big"))
                if child := os.fork():
                    _, status = os.waitpid(child, 0)
                    caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                    os._exit(0)
            return json.loads(request), files


def become(request, files):
    """Be the process that a command line of these arguments starts."""
    for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["folder"])
    sys.argv = [str(PROGRAM), *request["arguments"]]


if __name__ == "__main__":
    become(*listen(sys.argv[1]))
    # By its path, as Python finds it where the program itself is started.
    import tungsten

    tungsten.run()
