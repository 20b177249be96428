# What an image has that no package holds: files, links and folders, as contents.
rec {
  # layer, label: as of any content. entries: of the functions below.
  files = layer: label: entries: {
    inherit layer label;
    size = 0;
    inputs = [
      {
        kind = "files";
        inherit entries;
      }
    ];
  };

  text = path: lines: {
    inherit path;
    type = "file";
    mode = "0644";
    uid = 0;
    gid = 0;
    text = builtins.concatStringsSep "\n" lines + "\n";
  };

  link = path: target: {
    inherit path target;
    type = "link";
    mode = "0777";
    uid = 0;
    gid = 0;
  };

  # Writable for the user of the image, and for any other user id in group 0.
  folder = path: {
    inherit path;
    type = "dir";
    mode = "0775";
    uid = 65532;
    gid = 0;
  };

  # Inputs that may replace what others state.
  overriding = map (input: input // { override = true; });
}
