# What of a base image's configuration is in an image on it, and where its layers stand.
{ nix }:
let
  spec = {
    gpu = false;
    name = "m";
    mem-gb = 1;
    gpu-mem-gb = null;
    commands = {
      labels.mine = "yes";
      ports = [ "7/tcp" ];
      environment = { };
    };
  };

  image =
    environment: base:
    (nix.scope.bind {
      inherit spec;
      packageSet = {
        inherit base environment;
        cuda = null;
        dockerTools.buildLayeredImage = given: given;
        systemContents = [ ];
        commandContents = [ ];
        pythonContents = [ ];
        serverContents = [ ];
        fileContents = [ ];
        postBuildContents = [ ];
        sourceContents = [ ];
        requires = [ ];
        python = "/p";
        modelPython = "/q";
        tini = "/t";
      };
    } nix.modelImage).config;

  base = {
    environment = {
      PATH = "/theirs:/usr/bin";
      LD_LIBRARY_PATH = "/theirs/lib";
      LANG = "C";
      EDITION = "5";
    };
    labels = {
      device = "tape";
      maintainer = "Ada";
    };
    exposed-ports = [ "80/tcp" ];
  };

  variable =
    name: config:
    builtins.filter (line: builtins.match "${name}=.*" line != null) config.Env;

  on = image {
    PATH = "/usr/bin:/ours";
    LD_LIBRARY_PATH = "/ours/lib";
  } base;

  layersOn =
    byteCodePython:
    (nix.image {
      busybox = "/busybox";
      runTool = given: given;
      planLayers = nix.layers;
      fetch = given: given.file;
      platform = null;
      base = {
        reference = "b:1";
        layers = [
          {
            digest = "sha256:abc";
            diff-id = "sha256:d";
            media-type = "m";
            size = 1;
          }
        ];
      };
      inherit byteCodePython;
    }).layers
      [
        {
          layer = "wheels";
          label = "big";
          size = 100 * 1024 * 1024;
          inputs = [ ];
          byteCode = true;
          alone = {
            inputs = [ ];
            byteCodeInputs = [ ];
          };
        }
      ];
in
{
  "a base image's folders come first, and ours are not twice" = {
    expr = [
      (variable "PATH" on)
      (variable "LD_LIBRARY_PATH" on)
    ];
    expected = [
      [ "PATH=/theirs:/usr/bin:/ours" ]
      [ "LD_LIBRARY_PATH=/theirs/lib:/ours/lib" ]
    ];
  };
  "a base image's variables count where ours say nothing" = {
    expr = [
      (variable "LANG" on)
      (variable "EDITION" on)
    ];
    expected = [
      [ "LANG=C.UTF-8" ]
      [ "EDITION=5" ]
    ];
  };
  "labels and ports of a base image are below the model's" = {
    expr = [
      on.Labels.device
      on.Labels.maintainer
      on.Labels.mine
      (builtins.attrNames on.ExposedPorts)
    ];
    expected = [
      "cpu"
      "Ada"
      "yes"
      [
        "3000/tcp"
        "7/tcp"
        "80/tcp"
      ]
    ];
  };
  "the server is told of a Python that is not Debian's" = {
    expr = map (config: builtins.elem "--model-python" config.Entrypoint) [
      on
      (image { } null)
    ];
    expected = [
      true
      false
    ];
  };
  "a base image's layers come first, and every layer of ours knows them" = {
    expr = map (layer: [
      layer.name
      (map (one: one.config.blob) (layer.config.base or [ ]))
    ]) (layersOn null);
    expected = [
      [
        "base-layer"
        [ ]
      ]
      [
        "layer-wheels"
        [ "layer-abc" ]
      ]
    ];
  };
  "what would hold byte-code alone is there only where something compiles it" = {
    expr = map (layer: layer.name) (layersOn {
      command = [ ];
      version = "3.11";
    });
    expected = [
      "base-layer"
      "layer-wheels"
      "layer-wheels-byte-code"
    ];
  };
}
