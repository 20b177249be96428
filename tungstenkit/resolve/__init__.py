"""From wishes to exact files: Python, CUDA, Debian packages and wheels chosen together.

In come a spec, what mirrors list, and the lock before; out comes a lock that is not sealed yet. Reads indexes and
metadata only: runs nothing, downloads no package whole."""
