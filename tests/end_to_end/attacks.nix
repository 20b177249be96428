# attacks.py in each kind of step, of what a built model's own derivations have.
#
# nix: our folder. python: the tool root's command, in JSON. layers: the image's, in JSON. archive: a source whose build
# runs the attacks.
{ nix, busybox, python, tree, layers, archive, program, canary }:
let
  system = builtins.currentSystem;
  taken = {
    busybox = builtins.storePath busybox;
    python.command = map (word: if builtins.substring 0 1 word == "/" then builtins.storePath word else word) (
      builtins.fromJSON python
    );
    layers = map builtins.storePath (builtins.fromJSON layers);
    tree = builtins.storePath tree;
  };
  file = name: /. + nix + ("/" + name);
  ours = import (/. + nix);
  builder = {
    inherit (taken) busybox python;
    inherit system;
    enter = ours.scope.bind builder ours.enter;
  };
  inherit (builder) enter;
  step = ours.scope.bind builder ours.step;
  runTool = ours.scope.bind builder ours.runTool;
  unknown = "0000000000000000000000000000000000000000000000000000000000000000";

  ofTheModel =
    name: fixed:
    step {
      inherit fixed name;
      inherit (taken) tree;
      python = "/usr/bin/python3.11";
      program = /. + program;
      config = builtins.fromJSON canary;
    };

  command =
    name: network: more:
    runTool {
      inherit name;
      tool = "run_commands.py";
      config = {
        inherit network;
        inherit (taken) layers;
        uid = 0;
        gid = 0;
        context = null;
        steps = [
          {
            kind = "run";
            where = "here";
            text = "RUN";
            cwd = "/";
            environment.PATH = "/usr/bin:/bin";
            argv = [
              "/usr/bin/python3.11"
              "-c"
              (builtins.readFile (/. + program))
              canary
              "run"
            ];
          }
        ];
        architecture = "amd64";
        on-base = false;
        variation = {
          again = false;
          baseline = false;
          fake-time = null;
        };
      };
      inherit more;
    };
in
{
  import-check = ofTheModel "attack-by-import" null;
  post-build = ofTheModel "attack-by-post-build" {
    sha256 = unknown;
    variables = [ ];
  };
  run = command "attack-by-run" false { PATH = "${taken.busybox}/bin"; };
  run-with-network = command "attack-by-run-with-network" true {
    PATH = "${taken.busybox}/bin";
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = unknown;
  };
  # As layer.py runs a script that can't be read; that root has no Python, and so it gets one.
  package-script = derivation {
    name = "attack-by-package-script";
    inherit system canary;
    inherit (taken) tree;
    builder = builtins.head taken.python.command;
    args = builtins.tail taken.python.command ++ [
      "-I"
      "-S"
      "-B"
      (file "attack_by_script.py")
    ];
    tools = file "tools/lib";
    program = /. + program;
  };
  # As source.nix has it.
  source = derivation {
    name = "attack-by-source";
    inherit enter system;
    builder = "${taken.busybox}/bin/busybox";
    args = [ "sh" "-euc" ". ${file "tools/build-wheel.sh"}" ];
    PATH = "${taken.busybox}/bin";
    python = "3.11";
    root = taken.tree;
    environment = builtins.head taken.layers;
    archive = /. + archive;
    program = file "tools/build_wheel.py";
    config = builtins.toJSON {
      file = "attack.tar.gz";
      project = "attack";
      version = "1";
      backend = "backend";
      backend-path = [ "." ];
      subdirectory = "";
      environment = { };
    };
    passAsFile = [ "config" ];
  };
}
