# The outputs of an exported flake, from its folder.
{ outputs, ... }:
folder:
outputs {
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
