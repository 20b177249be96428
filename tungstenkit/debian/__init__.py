"""Debian's archive, read and solved: versions, control files, indexes, and the one table of releases.

Standards: deb-version(7), deb-control(5), Debian policy."""
