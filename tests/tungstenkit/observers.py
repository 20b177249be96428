"""Observers that keep what they are told: of a command, and of a build. And a model that nobody reads."""

from contextlib import nullcontext

from tungstenkit.watch import Unwatched


class Told(Unwatched):
    """What a person would be told, in order."""

    def __init__(self):
        self.notices = []
        self.warnings = []
        self.made = []
        self.makers = []

    def notice(self, text):
        self.notices.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def locked(self, made):
        self.made.append(made)

    def made_by_another(self, maker, this):
        self.makers.append(maker)


class View:
    """What a build's steps do, in order."""

    def __init__(self, *, shows=False):
        self.seen = []
        self.is_shown = shows

    def begin(self, step):
        self.seen.append(f"+{step}")

    def shows(self, step):
        return self.is_shown

    def say(self, step, line):
        self.seen.append(f"{step}: {line}")

    def end(self, step):
        self.seen.append(f"-{step}")

    def note(self, text):
        self.seen.append(text)


class Unread(nullcontext):
    """In place of a `Reading`, where what a model declares is known."""

    def __init__(self, directory, module=None, **_):
        super().__init__(self)
        self.directory = directory.resolve()

    def close(self):
        """There is nothing to end."""
