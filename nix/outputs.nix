# From an export's documents to its flake's outputs: ties every step together, for each platform of the lock and each
# platform that it has tools for.
#
#   packages.<system>.model-image, -dir               the image for that platform
#   packages.<system>.model-image-<platform>, -dir    the image for any platform of the lock; the bytes are the same,
#                                                     whichever system assembles it
#   lib.steps.<platform>.<name>                       what of an image runs the user's code, as functions of how it is
#                                                     run: for `seal-step.nix` alone
#   packages.<system>.shell                           the development shell's folder; `bin/python` is the image's
#   apps.<system>.shell                               starts it
#   apps.<system>.stream-image, -<platform>           writes `model-image` to standard output, nothing to the store
#   apps.<system>.push-image, -<platform>             pushes the image to a registry, by skopeo
#
# spec, lock, sources: paths of the documents. model: the model's files.
# bigFiles: path of files.json, which names those of the model's files that are in the store by themselves; may be null.
# own: a folder of files that the lock names and no mirror has, or null.
# ownSources: { sdk, server }, folders of our modules.
{ spec, lock, sources, model, ownSources, own ? null, bigFiles ? null }:
let
  documents = import ./documents.nix;
  ownWheels = builtins.fromJSON (builtins.readFile ./wheels.json);

  theSpec = documents.spec spec;
  theLock = documents.lock lock;
  fetch = import ./fetch.nix {
    inherit own;
    storeName = import ./store-name.nix;
    sources = documents.sources sources;
  };

  files = import ./files.nix { inherit fetch; };
  big = map (file: file // { stored = files.one file; }) (documents.files bigFiles);

  specFile = builtins.path {
    name = "spec.json";
    path = spec;
  };

  platforms = import ./platforms.nix;
  platformOf =
    system:
    platforms.${system} or (throw ''
      tungsten: this nix/ does not know the lock's platform ${system}.
      Export again with one version of tungsten'');

  # Everything that runs while an image is made: the lock's tools for the platform that builds.
  builder =
    system: tools:
    let
      busybox = import ./bootstrap.nix {
        inherit fetch system;
        inherit (tools) busybox;
      };
      root = import ./root.nix {
        inherit busybox fetch system;
        platform = platformOf system;
      };
      python = root tools.layers;
      runTool = import ./run-tool.nix { inherit busybox python system; };
    in
    {
      inherit busybox runTool system;
      step = import ./step.nix {
        inherit busybox system;
        enter = import ./enter.nix { inherit python; };
      };
      byteCodePython = root tools.byte-code;
      zstd = python.program "zstd";
      shell = import ./shell.nix {
        inherit
          busybox
          fetch
          python
          runTool
          system
          ;
        inherit (tools) bash;
      };
      programs = import ./programs.nix { inherit busybox python system; };
    };

  # What an image for one platform is made of; but for the steps nothing of it is run, so any builder will do.
  setFor =
    {
      busybox,
      runTool,
      byteCodePython,
      system,
      zstd,
      ...
    }:
    target: locked:
    let
      platform = platformOf target;

      # A wheel is built on the platform that it is for; one that is for all of them, on the one that builds.
      source =
        entry:
        let
          here = theLock.platforms.${system}.sources or [ ];
          same = builtins.filter (other: other.wheel-sha256 == entry.wheel-sha256) here;
          on = if same == [ ] then target else system;
        in
        import ./source.nix {
          inherit fetch;
          inherit (locked) python;
          platform = platformOf on;
          system = on;
          tools = theLock.tools.${on};
        } (if same == [ ] then entry else builtins.head same);
    in
    rec {
      packageSet = import ./debian.nix {
        inherit platform locked ownSources ownWheels model source commands postBuild;
        server = theLock.server.${target};
        spec = specFile;
        rootParts = import ./root-parts.nix { inherit busybox system; };
        importCheck =
          if system == target then
            import ./import-check.nix { inherit (builders.${system}) step; }
          else
            null;
        declared = files.declared (theLock.files or { });
        # The image has post_build's instead.
        bigFiles = files.big (builtins.filter (file: !builtins.elem file.path postBuild.replaces) big);
        deb = import ./deb.nix { inherit fetch; };
        wheel = import ./wheel.nix { inherit fetch runTool; };
        dockerTools = import ./image.nix {
          inherit busybox fetch runTool platform zstd;
          base = locked.base-image or null;
          # A base image may have a Python that Debian has not.
          byteCodePython = if byteCodePython.version == locked.python then byteCodePython else null;
          planLayers = import ./layers.nix;
        };
      };

      commands = import ./commands.nix {
        inherit files model packageSet platform;
        inherit (builders.${target}) busybox runTool;
        system = target;
        bigFiles = big;
        spec = theSpec;
        results = locked.commands or [ ];
      };

      postBuild = import ./post-build.nix {
        inherit model packageSet;
        bigFiles = big;
        spec = theSpec;
        locked = locked.post-build or null;
        # A program that runs in an image's own root runs on the platform that it is for.
        inherit (builders.${target}) step;
        runTool = import ./run-tool.nix {
          inherit system;
          inherit (builders.${system}) busybox;
          # The model's own Python, which its source is written for.
          python = byteCodePython;
        };
      };
    };

  image =
    tools: target: locked:
    import ./model-image.nix {
      spec = theSpec;
      inherit (setFor tools target locked) packageSet;
    };

  # It runs the image's programs here, so it is for the builder's own platform.
  shell =
    tools:
    let
      locked = theLock.platforms.${tools.system};
      set = (setFor tools tools.system locked).packageSet;
    in
    tools.shell {
      inherit (theSpec) name;
      root = set.buildRoot;
      interpreter = set.modelPython;
      version = locked.python;
      variables = import ./environment.nix {
        packageSet = set;
        spec = theSpec;
        cuda = if theSpec.gpu then set.cuda else null;
      };
      title = "Python ${locked.python} on ${
        if locked ? base-image then locked.base-image.reference else "Debian ${locked.release}"
      }, as in the image";
    };

  # Both forms of an image: one file, and a folder whose blobs are links.
  forms = name: made: {
    "model-image${name}" = made;
    "model-image${name}-dir" = made.layout;
  };

  # For each system that builds: `for` of every platform's image, by the platform's name and by none for its own.
  everyImage =
    tools: for:
    let
      images = builtins.mapAttrs (image tools) theLock.platforms;
      each = map (name: for "-${name}" images.${name}) (builtins.attrNames images);
      own = if images ? ${tools.system} then for "" images.${tools.system} else { };
    in
    builtins.foldl' (all: more: all // more) own each;

  whereItRuns = system: value: if theLock.platforms ? ${system} then value else { };

  builders = builtins.mapAttrs builder theLock.tools;
in
{
  packages = builtins.mapAttrs (
    system: tools:
    everyImage tools forms
    // whereItRuns system {
      default = image tools system theLock.platforms.${system};
      shell = (shell tools).programs;
    }
  ) builders;

  apps = builtins.mapAttrs (
    system: tools:
    let
      app = program: {
        type = "app";
        program = toString program;
      };
    in
    everyImage tools (name: made: {
      "stream-image${name}" = app (tools.programs.stream made.layout);
      "push-image${name}" = app (tools.programs.push made.layout);
    })
    // whereItRuns system { shell = app "${(shell tools).programs}/start"; }
  ) builders;

  devShells = builtins.mapAttrs (
    system: tools: whereItRuns system { default = (shell tools).develop; }
  ) builders;

  lib.steps = builtins.mapAttrs (
    target: locked:
    let
      set = setFor builders.${target} target locked;
    in
    {
      post-build = set.postBuild.make;
    }
    // set.commands.steps
  ) theLock.platforms;
}
