"""A declaration becomes `spec.json`: the model's module is read in a process of its own, apart from this machine.

In comes a model's folder; out come a `ModelSpec`, the files that ship, and the meaning of what people write in
requirements, Dockerfile lines and lock files of other tools. Asks no network. What is above imports it."""
