# How the parts of the table of contents are tied together. Each scope is a fixed point: a set of values by name, from
# which every part in it gets its arguments by their names. Who needs what stands where the part is.
#
#   exported   what holds for all of an export: its documents and its files
#   builder    what runs on one system while images are made: the lock's tools for it
#   target     the parts of one platform's image, put together by one builder
#   nixpkgs    the parts of one platform's image in the nixpkgs package set
#
# nix: the table.
nix:
let
  fix =
    scopeOf:
    let
      self = scopeOf self;
    in
    self;

  # A part with its arguments out of a scope, and what the scope has not out of the table.
  bind = scope: part: part (builtins.intersectAttrs (builtins.functionArgs part) (nix // scope));

  platformOf =
    system:
    nix.platforms.${system} or (throw ''
      tungsten: this nix/ does not know the lock's platform ${system}.
      Export again with one version of tungsten'');
in
rec {
  inherit bind;

  # packageSet: which the lock must be for. paths: spec, lock, sources, of the documents; bigFiles, the path of
  # files.json, which names those of the model's files that are in the store by themselves, may be missing; model, the
  # model's files; own, a folder of files that the lock names and no mirror has, may be missing; ownSources: { sdk,
  # server }, folders of our modules; parts, all by which the export is named, by their names in it, may be missing;
  # compression, of layers, where the spec does not say it.
  exported =
    packageSet: paths:
    fix (
      self: {
        inherit (paths) model ownSources;
        own = paths.own or null;
        exportParts = paths.parts or null;
        compression = paths.compression or self.spec.compression or "gzip";
        spec = nix.documents.spec paths.spec;
        specFile = builtins.path {
          name = "spec.json";
          path = paths.spec;
        };
        lock = nix.documents.lockOf packageSet paths.lock;
        sources = nix.documents.sources paths.sources;
        fetch = bind self nix.fetch;
        files = bind self nix.files;
        bigFiles = map (file: file // { stored = self.files.one file; }) (
          nix.documents.files (paths.bigFiles or null)
        );
      }
    );

  # fetch: gets a file of the lock. tools: the lock's, for the system.
  builder =
    { fetch, system, tools }:
    fix (
      self: {
        inherit fetch system tools;
        platform = platformOf system;
        busybox = bind self nix.bootstrap;
        root = bind self nix.root;
        python = self.root (tools.layers // { compiled = true; });
        zstd = self.python.program "zstd";
        runTool = bind self nix.runTool;
        enter = bind self nix.enter;
        step = bind self nix.step;
        source = bind self nix.source;
        rootParts = bind self nix.rootParts;
        shell = bind self nix.shell;
        apps = bind self nix.apps;

        # The Python of the lock's images, which the model's source is written for.
        imagePython = self.root tools.byte-code;
        runByImagePython = bind (self // { python = self.imagePython; }) nix.runTool;
      }
    );

  # builders: by system. system: which of them puts the image together; any will do, for nothing of the image is run but
  # by `runner`. target: the platform that the image is for.
  target =
    exported: builders: system: target:
    fix (
      self:
      exported
      // builders.${system}
      // {
        platform = platformOf target;
        locked = exported.lock.platforms.${target};
        server = exported.lock.server.${target};

        # What runs programs of the image runs on the platform that it is for.
        runner = builders.${target};

        # A wheel is built on the platform that it is for; one that is for all of them, on the one that builds.
        source =
          entry:
          let
            here = exported.lock.platforms.${system}.sources or [ ];
            same = builtins.filter (other: other.wheel-sha256 == entry.wheel-sha256) here;
            on = if same == [ ] then target else system;
          in
          builders.${on}.source self.locked.python (if same == [ ] then entry else builtins.head same);

        base = self.locked.base-image or null;
        # A base image may have a Python that Debian has not.
        byteCodePython = if self.imagePython.version == self.locked.python then self.imagePython else null;
        planLayers = nix.layers;
        created = bind self nix.dateOf;
        dockerTools = bind self nix.image;
        deb = bind self nix.deb;
        wheel = bind self nix.wheel;
        underneath = bind (
          self // { lowest = bind self (if self.base == null then nix.debianRoot else nix.baseRoot); }
        ) nix.underneath;
        importCheck = if system == target then bind self.runner nix.importCheck else null;
        declared = self.files.declared (exported.lock.files or { });
        # The image has post_build's instead.
        bigContents = self.files.big (
          builtins.filter (file: !builtins.elem file.path self.postBuild.replaces) exported.bigFiles
        );
        commands = bind self nix.commands;
        buildRoot = bind self nix.buildRoot;
        postBuild = bind self nix.postBuild;
        packageSet = bind self nix.debian;
        modelImage = bind self nix.modelImage;
      }
    );

  # inputs: { nixpkgs, poetry2nix }, folders of the revisions that the lock pins. projects: the folder of the export's
  # Poetry projects for the platform.
  nixpkgs =
    { exported, inputs, projects, system }:
    fix (
      self:
      exported
      // {
        inherit projects;
        inherit (inputs) poetry2nix;
        platform = platformOf system;
        locked = exported.lock.platforms.${system};
        server = exported.lock.server.${system};
        pkgs = import inputs.nixpkgs {
          inherit system;
          # NVIDIA's libraries are not free, and are taken for a GPU only.
          config.allowUnfree = exported.spec.gpu;
          # Nothing of whoever builds counts.
          overlays = [ ];
        };
        environmentOf = bind self nix.poetry;
        created = bind self nix.dateOf;
        packageSet = bind self nix.nixpkgs;
        modelImage = bind self nix.modelImage;
        modelImageStream = bind (
          self // { packageSet = self.packageSet // { dockerTools = self.packageSet.streaming; }; }
        ) nix.modelImage;
      }
    );
}
