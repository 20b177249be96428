"""What a lock says: who asked for a package, how two locks differ, what is asked for, and what is known to be
vulnerable.

In come locks; out come values that the command line words. Nothing here changes a lock."""
