"""The command line: reads arguments, calls the stages in order, and words what they return.

Nothing else prints. Nobody imports it."""
