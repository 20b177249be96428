# The debian package set: the interface of model-image.nix, from a lock alone.
#
# locked, server: the lock's, for the platform and for its server. underneath: the system below the model, of
# debian-root.nix or base-root.nix. specFile, model, bigContents: what is edited: the spec, the model's files, and those
# that are not in its folder. declared: the contents and variables of declared downloads. commands, postBuild: what was
# run of the model's. ownSources, ownWheels: our modules, and what is said of their wheels. deb, wheel, source: make
# contents of the lock's entries. importCheck: imports the model, or null where its platform is not the builder's.
{
  locked,
  server,
  underneath,
  specFile,
  model,
  ownSources,
  ownWheels,
  deb,
  wheel,
  source,
  commands,
  postBuild,
  dockerTools,
  stated,
  importCheck ? null,
  rootParts ? null,
  declared ? {
    contents = [ ];
    variables = { };
  },
  bigContents ? [ ],
}:
let
  version = locked.python;

  inherit (stated) files link text;

  modelEnvironment = underneath.modelEnvironment // {
    layer = "wheels";
  };

  serverPrefix = "opt/tungsten/server";
  serverEnvironment = {
    layer = "server";
    prefix = serverPrefix;
    sitePackages = "${serverPrefix}/lib/python${version}/site-packages";
    interpreter = "/${serverPrefix}/bin/python3";
  };
in
rec {
  inherit dockerTools;

  # Where build steps run: the image without the server, downloads and the model.
  buildRoot = dockerTools.unpackedRoot (systemContents ++ commandContents ++ pythonContents);
  modelPython = underneath.modelEnvironment.interpreter;

  inherit (underneath) base systemContents tini;

  commandContents = commands.contents;

  # The whole image's root, for `tungsten check`: what may be big apart from what is edited.
  root =
    let
      source = builtins.partition (content: content.layer == "model") sourceContents;
    in
    rootParts (
      [ buildRoot ]
      ++ map dockerTools.unpackedPart (
        builtins.filter (contents: contents != [ ]) [
          serverContents
          fileContents
          postBuildContents
          source.wrong
          source.right
        ]
      )
    );

  # What must succeed before there is an image; `variables` are its own. Nothing of another platform is run.
  checks =
    variables:
    postBuild.requires
    ++ (
      if importCheck == null then
        [ ]
      else
        [
          (importCheck {
            inherit model specFile variables;
            tree = buildRoot;
            over = if postBuildContents == [ ] then [ ] else [ (dockerTools.unpackedPart postBuildContents) ];
            python = modelPython;
          })
        ]
    );

  pythonContents =
    underneath.replacedContents
    ++ wheel.locked modelEnvironment (entry: (source entry).wheel) (locked.wheels ++ locked.sources or [ ])
    ++ [ (wheel.own (modelEnvironment // { layer = "sdk"; }) ownWheels.sdk ownSources.sdk) ];

  serverContents = [
    (files "server" "the server's environment" [
      (text "${serverPrefix}/pyvenv.cfg" [
        "home = ${underneath.pythonHome}"
        "include-system-site-packages = false"
        "version = ${version}"
      ])
      (link "${serverPrefix}/bin/python3" modelPython)
    ])
  ]
  ++ wheel.locked serverEnvironment null server.wheels
  ++ [ (wheel.own serverEnvironment ownWheels.server ownSources.server) ];

  fileContents = declared.contents;
  fileVariables = declared.variables;

  postBuildContents = postBuild.contents;

  sourceContents = bigContents ++ [
    {
      layer = "model";
      label = "the model's files";
      size = 0;
      inputs = [
        {
          kind = "tree";
          path = model;
          destination = "app";
          uid = 65532;
          gid = 0;
          directory-mode = "0775";
          except = postBuild.replaces;
        }
        {
          kind = "tree";
          path = specFile;
          destination = "opt/tungsten/spec.json";
          uid = 0;
          gid = 0;
          directory-mode = "0755";
        }
      ];
    }
  ];

  python = "/${serverPrefix}/bin/python3";
  inherit (locked) cuda;
  environment =
    underneath.environment
    // (
      if locked.cuda == null then
        { }
      else
        {
          # torch, TensorFlow and JAX find the libraries of wheels by themselves; onnxruntime, CuPy and others ask the
          # loader by name. /usr/local/nvidia is where hosts that mount their driver put it, as NVIDIA's images expect.
          LD_LIBRARY_PATH = builtins.concatStringsSep ":" (
            [
              "/usr/local/nvidia/lib"
              "/usr/local/nvidia/lib64"
            ]
            ++ map (folder: "/${modelEnvironment.sitePackages}/${folder}") locked.cuda.libraries
          );
        }
    );
}
