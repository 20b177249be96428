# Which outputs a flake has: the image of each platform of the lock, made by each platform that has tools.
{ nix }:
let
  outputs =
    example:
    nix.outputs {
      spec = example + "/spec.json";
      lock = example + "/tungsten.lock";
      sources = example + "/sources.json";
      model = example;
      ownSources = {
        sdk = ../../../tungstenkit;
        server = ../../../server/tungsten_server;
      };
    };
  both = (outputs ../../../examples/blur).packages;
  oneOutputs = outputs ../../../examples/caption;
  one = oneOutputs.packages;
  forms = name: [ name "${name}-dir" ];
in
{
  "every platform's image is made on every platform" = {
    expr = map (system: builtins.attrNames both.${system}) [ "aarch64-linux" "x86_64-linux" ];
    expected =
      let
        names = [
          "default"
          "model-image"
          "model-image-aarch64-linux"
          "model-image-aarch64-linux-dir"
          "model-image-dir"
        ]
        ++ forms "model-image-x86_64-linux"
        ++ [ "shell" ];
      in
      [ names names ];
  };
  "the image without a platform's name is the system's own" = {
    expr = map (system: both.${system}.model-image.drvPath == both.${system}."model-image-${system}".drvPath) [
      "aarch64-linux"
      "x86_64-linux"
    ];
    expected = [ true true ];
  };
  "another platform's image is made by this one's programs" = {
    expr = map (layer: layer.system) both.x86_64-linux.model-image-aarch64-linux.layers;
    expected = map (_layer: "x86_64-linux") both.x86_64-linux.model-image-aarch64-linux.layers;
  };
  "its layers are those of an image for it made there, but for who makes them" = {
    expr = map (layer: layer.name) both.x86_64-linux.model-image-aarch64-linux.layers;
    expected = map (layer: layer.name) both.aarch64-linux.model-image.layers;
  };
  "a model is imported where its image can run, and nowhere else" = {
    expr =
      let
        isChecked =
          image: builtins.match ".*-import-check.*" (builtins.unsafeDiscardStringContext image.layout.config) != null;
      in
      map isChecked [
        both.x86_64-linux.model-image
        both.aarch64-linux.model-image
        both.x86_64-linux.model-image-aarch64-linux
        both.aarch64-linux.model-image-x86_64-linux
      ];
    expected = [ true true false false ];
  };
  "a lock of one platform has nothing of others" = {
    expr = builtins.mapAttrs (_system: builtins.attrNames) one;
    expected.x86_64-linux = [
      "default"
      "model-image"
      "model-image-dir"
    ]
    ++ forms "model-image-x86_64-linux"
    ++ [ "shell" ];
  };
  "every image can be streamed and pushed, and the shell started where the lock has the platform" = {
    expr = builtins.mapAttrs (_system: builtins.attrNames) oneOutputs.apps;
    expected.x86_64-linux = [
      "push-image"
      "push-image-x86_64-linux"
      "shell"
      "stream-image"
      "stream-image-x86_64-linux"
    ];
  };
  "the shell's variables are the image's, without what names its home and its caches" = {
    expr =
      let
        config = builtins.unsafeDiscardStringContext both.x86_64-linux.shell.config;
      in
      builtins.attrNames (builtins.fromJSON config).variables;
    expected = [
      "LANG"
      "PATH"
      "PYTHONDONTWRITEBYTECODE"
      "PYTHONUNBUFFERED"
      "SSL_CERT_FILE"
    ];
  };
}
