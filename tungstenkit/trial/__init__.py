"""Trying a model: inputs made up from its spec, its answers, and a judgement.

In goes the address of a server; out comes a report. The command line imports it."""
