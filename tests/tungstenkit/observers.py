"""An observer that keeps what it is told."""

from tungstenkit.watch import Unwatched


class Told(Unwatched):
    """What a person would be told, in order."""

    def __init__(self):
        self.notices = []
        self.warnings = []
        self.made = []

    def notice(self, text):
        self.notices.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def locked(self, made):
        self.made.append(made)
