"""A model's server on this machine, in a container or in this Python, and what talks to it.

In goes a program to run; out come its address, its answers and its end, and what its log says of the model's faults.
`shell` and `image_root` run programs of the image without a server or an engine. `trial`, `project` and the command
line import it."""
