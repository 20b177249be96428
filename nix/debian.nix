# The debian package set: the interface of model-image.nix, from a lock alone.
#
# declared, bigFiles: of files.nix. importCheck, rootParts: of the files of those names, or null.
{
  platform,
  locked,
  server,
  spec,
  model,
  ownSources,
  ownWheels,
  deb,
  wheel,
  source,
  commands,
  postBuild,
  dockerTools,
  importCheck ? null,
  rootParts ? null,
  declared ? {
    contents = [ ];
    variables = { };
  },
  bigFiles ? [ ],
}:
let
  version = locked.python;

  # The system below the model: Debian's, or the base image that the model names.
  system = import (if locked ? base-image then ./base-root.nix else ./debian-root.nix) {
    inherit
      deb
      locked
      platform
      stated
      ;
  };
  stated = import ./stated.nix;
  inherit (stated) files link text;

  modelEnvironment = system.modelEnvironment // {
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
  modelPython = system.modelEnvironment.interpreter;

  inherit (system) base systemContents tini;

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
            inherit model spec variables;
            tree = buildRoot;
            over = if postBuildContents == [ ] then [ ] else [ (dockerTools.unpackedPart postBuildContents) ];
            python = modelPython;
          })
        ]
    );

  pythonContents =
    system.replacedContents
    ++ wheel.locked modelEnvironment (entry: (source entry).wheel) (locked.wheels ++ locked.sources or [ ])
    ++ [ (wheel.own (modelEnvironment // { layer = "sdk"; }) ownWheels.sdk ownSources.sdk) ];

  serverContents = [
    (files "server" "the server's environment" [
      (text "${serverPrefix}/pyvenv.cfg" [
        "home = ${system.pythonHome}"
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

  sourceContents = bigFiles ++ [
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
          path = spec;
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
    system.environment
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
