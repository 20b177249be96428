"""What a lock says to people: why a package is there, how two locks differ, what is known to be vulnerable, whether it
holds anything that its model has not asked for, and whether what was run would see something else by now.

In come locks, and the model to judge one by; out come values that the command line words. Nothing here changes a lock.
`advisories` alone asks the network. `seal` knows by it what to run; `project` and the command line import it."""
