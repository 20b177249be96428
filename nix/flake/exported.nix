# The outputs of an exported flake, from its folder.
{ facts, outputs, ... }:
folder:
outputs {
  # Each by itself, so that what an image is named after is none of what else lies in the folder.
  parts = builtins.listToAttrs (
    map (name: {
      inherit name;
      value = builtins.path {
        name = "exported";
        path = folder + "/${name}";
      };
    }) (builtins.filter (name: builtins.pathExists (folder + "/${name}")) facts.exported)
  );
  spec = folder + "/spec.json";
  lock = folder + "/tungsten.lock";
  sources = folder + "/sources.json";
  own = folder + "/files";
  bigFiles = folder + "/files.json";
  model = builtins.path {
    name = "model";
    path = folder + "/model";
  };
  ownSources = {
    sdk = folder + "/tungstenkit";
    server = folder + "/server/tungsten_server";
  };
}
