"""From what a model asks for to exact files: Debian's packages and Python's wheels."""
