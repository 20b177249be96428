"""A declaration becomes `spec.json`: the model's module is read in a process of its own, apart from this machine."""
