"""`tungsten.lock`: its form, whether it fits its model, which part of it a command is about, and what is pinned.

In comes JSON, out comes a `Lock`, and the other way round. Nothing here chooses a version or opens a file that a lock
names. What is above imports it."""
