# The store name of a downloaded file. `tungstenkit/store.py` is the same rule in Python: a file that
# `tungsten fetch` adds under another name would be downloaded a second time. Both are tested with one table.
#
# Nix allows [A-Za-z0-9+._?=-] and refuses a leading dot and long names; Debian's file names hold `~` and `%`.
fileName:
let
  allowed = builtins.filter builtins.isString (builtins.split "[^A-Za-z0-9+._-]" fileName);
  name = builtins.concatStringsSep "_" allowed;
  length = builtins.stringLength name;
  # The end of a name tells more than its beginning: the version, the platform, the suffix.
  short = if length > 160 then builtins.substring (length - 160) 160 name else name;
in
if builtins.substring 0 1 short == "." then "_${short}" else short
