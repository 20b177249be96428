# The debian package set: the interface of model-image.nix, from a lock alone.
#
# locked, server: the lock's, for the platform and for its server. underneath: what lies below the model's packages.
# buildRoot: the same with them and with what commands have changed. specFile, model, bigContents: what is edited: the
# spec, the model's files, and those that are not in its folder. exportParts: what the export is named by, or null.
# declared: the contents and variables of declared downloads. commands, postBuild: what was run of the model's.
# ownSources, ownWheels: our modules, and what is said of their wheels. wheel: makes contents of the lock's entries.
# importCheck: imports the model, or null where its platform is not the builder's.
{
  locked,
  server,
  underneath,
  buildRoot,
  specFile,
  model,
  ownSources,
  ownWheels,
  wheel,
  commands,
  postBuild,
  dockerTools,
  stated,
  exportParts ? null,
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

  serverPrefix = "opt/tungsten/server";
  serverEnvironment = {
    layer = "server";
    prefix = serverPrefix;
    sitePackages = "${serverPrefix}/lib/python${version}/site-packages";
    interpreter = "/${serverPrefix}/bin/python3";
  };
in
rec {
  inherit dockerTools exportParts;
  inherit (underneath)
    base
    cuda
    environment
    systemContents
    tini
    ;
  inherit (buildRoot) pythonContents;
  modelPython = buildRoot.python;

  commandContents = commands.contents;

  # The whole image's root, for `tungsten check`: what may be big apart from what is edited.
  root =
    let
      source = builtins.partition (content: content.layer == "model") sourceContents;
    in
    rootParts (
      [ buildRoot.tree ]
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
            inherit (buildRoot) tree;
            over = if postBuildContents == [ ] then [ ] else [ (dockerTools.unpackedPart postBuildContents) ];
            python = modelPython;
          })
        ]
    );

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
}
