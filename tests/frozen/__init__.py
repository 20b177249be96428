"""A frozen archive of the tests' own: Debian's, an index of Python packages and npm's registry, served on loopback.

Two kinds of files are in it. Those that a test makes (`tests.binaries`) are asserted byte for byte. Those that must
really run (Python, libc, busybox, tini, the server's wheels, a compiler) are `take`n once from today's mirrors and put
in unchanged: no test asserts a version, a hash or a number of these. `archive` writes the indexes and signs them with a
key of the tests' own, `serve` serves them, and `tungsten.py` is the command line that believes that key.
"""
