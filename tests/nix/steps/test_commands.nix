# dockerfile_commands: which segments are run, over what, and which of the model's files each sees.
{ nix }:
let
  run = {
    kind = "run";
    text = "RUN x";
    environment.A = [
      "a:"
      { variable = "PATH"; }
    ];
  };
  copy = pattern: {
    kind = "copy";
    text = "COPY x";
    sources = [ { inherit pattern; } ];
  };
  segment = network: steps: {
    inherit network steps;
    uid = 0;
    gid = 0;
  };
  sha256 = builtins.concatStringsSep "" (builtins.genList (_: "0") 64);
  result = sees: {
    inherit sha256 sees;
    size = 0;
  };
  made =
    segments: results:
    nix.scope.bind {
      locked.commands = results;
      spec = {
        gpu = false;
        commands.segments = segments;
      };
      model = ../image;
      bigFiles = [ ];
      files = nix.scope.bind { fetch = null; } nix.files;
      underneath = {
        base = null;
        environment = { };
        systemContents = [ "the system" ];
      };
      dockerTools.layers = below: below;
      platform.debian = "amd64";
      runner = {
        system = "x86_64-linux";
        busybox = "/busybox";
        runTool = given: given;
      };
    } nix.commands;
  given = segments: results: map (content: (builtins.head content.inputs).path) (made segments results).contents;
  context = steps: (builtins.head (given [ (segment false steps) ] [ ])).config.context;
  files = steps: builtins.attrNames (builtins.readDir (context steps));
in
{
  "without commands there is nothing" = {
    expr = (made [ ] [ ]).contents;
    expected = [ ];
  };
  "each segment is a layer over all that is below it" = {
    expr = map (one: builtins.length one.config.layers) (
      given [
        (segment false [ run ])
        (segment false [ run ])
      ] [ ]
    );
    expected = [
      1
      2
    ];
  };
  "what has the network is fixed, by its place among those that have it" = {
    expr =
      map (one: [
        one.name
        (one.more.outputHash or null)
      ])
        (
          given [
            (segment true [ run ])
            (segment false [ run ])
            (segment true [ run ])
          ] [
            (result "1111111111111111x")
            (result "2222222222222222x")
          ]
        );
    expected = [
      [
        "command-1111111111111111.tar"
        sha256
      ]
      [
        "command-1.tar"
        null
      ]
      [
        "command-2222222222222222.tar"
        sha256
      ]
    ];
  };
  "a program sees the image's variables and its own" = {
    expr = (builtins.head (builtins.head (given [ (segment false [ run ]) ] [ ])).config.steps).environment.A;
    expected = "a:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  };
  "a segment sees the files that it copies, and no other" = {
    expr = files [
      (copy [ "test_[be][^/]*\\.nix" ])
      (copy [ "test_layers\\.nix" ])
    ];
    expected = [
      "test_base_image.nix"
      "test_environment.nix"
      "test_layers.nix"
    ];
  };
  "brackets and braces of a pattern are ones that Nix reads" = {
    expr = files [ (copy [ "x[\\[]]\\{}" ]) ];
    expected = [ ];
  };
  "what copies nothing sees nothing" = {
    expr = context [ run ];
    expected = null;
  };
}
