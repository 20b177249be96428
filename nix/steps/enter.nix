# The command that runs a program in a root of its own, apart: `tools/enter.py`, by the tool root's Python.
{ programs, python }:
python.command
++ [
  "-I"
  "-S"
  "-B"
  programs."enter.py".path
]
