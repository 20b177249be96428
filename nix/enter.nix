# The command that runs a program in a root of its own, apart: `tools/enter.py`, by the tool root's Python.
#
# By itself, so that no other tool's change runs a step again.
{ python }:
let
  tools = builtins.path {
    name = "tungsten-enter";
    path = ./tools;
    filter = path: _type: builtins.match ".*/(apart|enter)\\.py" path != null;
  };
in
python.command
++ [
  "-I"
  "-S"
  "-B"
  "${tools}/enter.py"
]
