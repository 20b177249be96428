# Declared downloads and big files: where they go in an image, and what is asked of the store.
{ nix }:
let
  sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  commit = "0123456789abcdef0123456789abcdef01234567";
  files = nix.scope.bind { fetch = nix.scope.bind { sources = { }; } nix.fetch; } nix.files;
  repository =
    attributes:
    {
      repository = "org/name";
      type = "model";
      revision = "main";
      inherit commit;
      files = [
        {
          path = "onnx/model.bin";
          size = 100 * 1024 * 1024;
          inherit sha256;
        }
      ];
    }
    // attributes;
  places =
    declared: map (content: let input = builtins.head content.inputs; in "${input.base}/${input.to}") declared.contents;
  cache = "home/nonroot/.cache/huggingface/hub/models--org--name";
  weights = {
    to = "weights/w.bin";
    url = "https://host.invalid/x";
    size = 7;
    inherit sha256;
    executable = true;
  };
  big = builtins.head (
    files.big [
      {
        path = "weights/w 1.bin";
        size = 100 * 1024 * 1024;
        inherit sha256;
        executable = false;
      }
    ]
  );
in
{
  "a download goes below the model's folder, owned as the model's files are" = {
    expr = removeAttrs (builtins.head (builtins.head (files.declared { downloads = [ weights ]; }).contents).inputs) [
      "path"
    ];
    expected = {
      kind = "placed";
      base = "app";
      to = "weights/w.bin";
      uid = 65532;
      gid = 0;
      directory-mode = "0775";
      inherit sha256;
      executable = true;
    };
  };
  "a repository goes where the hub's library looks, with the commit under the branch's name" = {
    expr = places (files.declared { repositories = [ (repository { }) ]; });
    expected = [
      "${cache}/snapshots/${commit}/onnx/model.bin"
      "${cache}/refs/main"
    ];
  };
  "a commit has no other name, and a folder no cache" = {
    expr = places (files.declared {
      repositories = [
        (repository { revision = commit; })
        (repository { to = "here"; })
        (repository { to = "."; })
      ];
    });
    expected = [
      "${cache}/snapshots/${commit}/onnx/model.bin"
      "app/here/onnx/model.bin"
      "app/onnx/model.bin"
    ];
  };
  "one branch that is declared twice has one name" = {
    expr = builtins.length (files.declared { repositories = [ (repository { }) (repository { }) ]; }).contents;
    expected = 3;
  };
  "the cache is below the image's HF_HOME" = {
    expr =
      (nix.environment {
        spec.gpu = false;
        underneath.environment = { };
      }).HF_HOME;
    expected = "/home/nonroot/.cache/huggingface";
  };
  "what is in the cache is what is used, with a network too" = {
    expr = map (declared: (files.declared declared).variables) [
      { repositories = [ (repository { }) ]; }
      { repositories = [ (repository { to = "here"; }) ]; }
      { }
    ];
    expected = [ { HF_HUB_OFFLINE = "1"; } { } { } ];
  };
  "a big file stands alone and is stored" = {
    expr = map (layer: (builtins.head layer.inputs).stored or false) (
      nix.layers {
        contents = [ big ] ++ (files.declared { downloads = [ weights ]; }).contents;
        maxLayers = 100;
      }
    );
    expected = [ true false ];
  };
  "a big file has its store name, and no URL but one that says what to do" = {
    expr =
      let
        file = (builtins.head big.inputs).path;
      in
      [
        file.name
        (builtins.match "run-tungsten-fetch://a-big-file-of-the-model-.*" file.url != null)
      ];
    expected = [ "w_1.bin" true ];
  };
  "without big files the model's tree is the model" = {
    expr = files.tree {
      busybox = null;
      system = null;
      model = "the model";
      files = [ ];
    };
    expected = "the model";
  };
}
