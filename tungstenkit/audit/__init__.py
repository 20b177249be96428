"""What a lock says to people: why a package is there, how two locks differ, what is known to be vulnerable, and
whether it holds anything that its model has not asked for.

In come locks, and the spec to judge one by; out come values that the command line words. Nothing here changes a lock.
`advisories` alone asks the network. `project` and the command line import it."""
