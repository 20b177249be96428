"""Web servers of the tests' own, each in a thread of the test's process."""

import contextlib
import threading


@contextlib.contextmanager
def serving(server):
    """Have a server answer until the end of the block, which it then ends at once, and not half a second later."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
