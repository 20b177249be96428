"""The words by which lines of the log are known to whoever has started the server, whatever their sentences say.

A line that has one begins with it, in brackets. Tungsten's command line reads them (`run/faults.py` there), and
nothing that people may want to read otherwise.
"""

RAISED = "raised"
"""The model's code has raised an exception, or could not be run: its traceback follows."""

INPUT_REFUSED = "input-refused"
"""The input class's own validators don't take an input: likewise with a traceback."""

SETUP_FAILED = "setup-failed"
"""One of several setups has failed, and all that it said stands above."""

GAVE_UP = "gave-up"
"""The server ends, and the rest of the line says why."""
