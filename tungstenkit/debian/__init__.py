"""Debian's archive, read and solved: versions, control files, indexes, and the one table of releases.

In come signed indexes and .deb files, by a function that gets a URL; out come packages, and exact sets of them. Knows
Debian's standards (deb-version(7), deb-control(5), policy), and of Tungstenkit nothing but the ground."""
