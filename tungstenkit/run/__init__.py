"""A model's server on this machine, in a container or in this Python, and what talks to it.

In goes a program to run; out come its address, its answers and its end. The command line and `trial` import it."""
