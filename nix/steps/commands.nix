# dockerfile_commands: each segment runs over all that is below it, and what it changes is a layer of its own.
#
# spec: the document's value. locked: the lock's, for the platform; of it, the results of the segments that have the
# network, in order. underneath: the root that they run in. runner: the builder of the platform that the image is for,
# because programs of the image run. bigFiles: those of the model's files that are not in its folder.
{
  spec,
  locked,
  model,
  bigFiles,
  files,
  underneath,
  dockerTools,
  platform,
  runner,
  environment,
  facts,
}:
let
  inherit (runner) busybox runTool;
  commands = spec.commands or { segments = [ ]; };
  results = locked.commands or [ ];

  # Of the model's files those that a segment copies, so that no other one makes it run again.
  contextOf =
    segment:
    let
      patterns = builtins.concatMap (step: map (source: source.pattern) (step.sources or [ ])) segment.steps;
    in
    if patterns == [ ] then
      null
    else
      files.tree {
        inherit busybox;
        inherit (runner) system;
        model = builtins.path {
          name = "context";
          path = model;
          filter = path: _type: builtins.any (matches (names path)) patterns;
        };
        files = builtins.filter (file: builtins.any (matches (parts file.path)) patterns) bigFiles;
      };

  parts = path: builtins.filter builtins.isString (builtins.split "/" path);

  # The names of a path below the model's files.
  names = path: parts (builtins.substring (builtins.stringLength (toString model) + 1) (-1) path);

  # Whether a path is what a pattern means, or lies below it or on the way to it.
  matches =
    path: pattern:
    let
      shared = if builtins.length path < builtins.length pattern then path else pattern;
      same = i: builtins.match (wide (builtins.elemAt pattern i)) (builtins.elemAt path i) != null;
    in
    builtins.all same (builtins.genList (i: i) (builtins.length shared));

  # Nix's expressions know bytes, and a letter may have four: what may stand for one that is not ASCII lets any letter
  # in. What is copied is the step's decision.
  wide =
    pattern:
    let
      isWide = class: builtins.match "\\[(\\^.*|.*[^ -~].*)" class != null;
      widened =
        part:
        if builtins.isString part then
          part
        else if builtins.head part != "[^/]*" && isWide (builtins.head part) then
          "[^/]{1,4}"
        else
          builtins.head part;
    in
    builtins.concatStringsSep "" (
      map widened (builtins.split "(\\\\.|\\[\\^/]\\*|\\[\\^?.[^]]*])" pattern)
    );

  step =
    segment: one:
    if one.kind == "run" then
      one
      // {
        environment = environment {
          inherit spec underneath;
          set = one.environment;
        };
      }
    else
      one;

  makeOf =
    number: segment: below: run:
    let
      sees = (builtins.elemAt results (networks number)).sees;
    in
    runTool {
      # With the network not by the result's hash alone: an older result must not be taken for a new one.
      name = "command-${if segment.network then builtins.substring 0 16 sees else toString number}.tar";
      tool = "run_commands.py";
      config = {
        inherit (segment) network uid gid;
        layers = dockerTools.layers below;
        context = contextOf segment;
        steps = map (step segment) segment.steps;
        architecture = platform.debian;
        on-base = underneath.base != null;
        variation = {
          inherit (run) again;
          baseline = false;
          fake-time = run.fakeTime;
        };
      };
      more = {
        PATH = "${busybox}/bin";
      }
      // (if segment.network then fixed run.sha256 else { });
    };

  fixed = sha256: {
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = sha256;
    # Nix 2.8 loses an output that mentions a store path, without a word.
    allowedReferences = [ ];
    impureEnvVars = facts.proxy-variables;
  };

  # How many segments before one have the network: its place among the results.
  networks =
    number:
    builtins.length (
      builtins.filter (i: (builtins.elemAt commands.segments i).network) (builtins.genList (i: i) number)
    );

  made = builtins.foldl' (
    done: segment:
    let
      number = builtins.length done;
      below = underneath.systemContents ++ map (one: one.content) done;
      make = makeOf number segment below;
    in
    done
    ++ [
      {
        inherit make;
        name = "command-${toString number}";
        content = {
          layer = "command-${toString number}";
          label = builtins.concatStringsSep "; " (map (one: one.text) segment.steps);
          size = 0;
          inputs = [
            {
              kind = "changes";
              path = make {
                again = false;
                fakeTime = null;
                sha256 = if segment.network then (builtins.elemAt results (networks number)).sha256 else null;
              };
            }
          ];
        };
      }
    ]
  ) [ ] commands.segments;
in
{
  contents = map (one: one.content) made;

  # For sealing: how each is run.
  steps = builtins.listToAttrs (
    map (one: {
      inherit (one) name;
      value = one.make;
    }) made
  );
}
