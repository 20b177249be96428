# What a lock says for its readers alone is no input of anything that is built.
{ nix }:
let
  example = ../../../examples/blur;
  image =
    lock:
    (nix.outputs {
      spec = example + "/spec.json";
      inherit lock;
      sources = example + "/sources.json";
      model = example;
      ownSources = {
        sdk = ../../../tungstenkit;
        server = ../../../server/tungsten_server;
      };
    }).packages.x86_64-linux.model-image.drvPath;
  without =
    value:
    if builtins.isList value then
      map without value
    else if builtins.isAttrs value then
      builtins.mapAttrs (_name: without) (
        removeAttrs value [ "choices" "inputs" "needed-by" "source" ]
      )
    else
      value;
  lock = example + "/tungsten.lock";
  read = builtins.fromJSON (builtins.readFile lock);
in
{
  "reasons and inputs change no image" = {
    expr = image (builtins.toFile "tungsten.lock" (builtins.toJSON (without read)));
    expected = image lock;
  };
  "but versions do" = {
    expr =
      let
        other = read // {
          server = builtins.mapAttrs (_system: server: server // { wheels = builtins.tail server.wheels; }) read.server;
        };
      in
      image (builtins.toFile "tungsten.lock" (builtins.toJSON other)) == image lock;
    expected = false;
  };
}
