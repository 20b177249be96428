"""The command line: reads arguments, calls the stages in order, and words what they return.

In come arguments; out comes what a person reads. Nothing else prints. `tungstenkit.__main__` alone imports it."""
