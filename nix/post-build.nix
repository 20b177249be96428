# What a model's post_build makes: one fixed-output tar, made in the image's own root with the network.
#
# spec: the document's value. locked: the lock's entry, or null where there is none. packageSet: whose root and Python
# it runs in. runTool: runs the tools by the model's own Python version. bigFiles: those of the model's files that are
# not in its folder, as files.nix has them.
{ spec, locked, model, bigFiles, packageSet, step, runTool }:
let
  seen = builtins.filter (file: locked.files ? ${file.path}) bigFiles;

  # What it sees of the model; made from the model's files at each build, and checked: a result must not outlive them.
  view = runTool {
    name = "view-of-post-build";
    tool = "post_build_view.py";
    config = {
      inherit model;
      inherit (spec) module class;
      inherit (locked) files;
      big = builtins.listToAttrs (
        map (file: {
          name = file.path;
          value = file.sha256 + (if file.executable then " x" else "");
        }) seen
      );
    };
  };

  cuda = if spec.gpu then packageSet.cuda else null;

  # As every build runs it.
  plain = {
    again = false;
    fakeTime = null;
    certificates = null;
    secrets = "";
    inherit (locked) sha256;
  };

  make =
    run:
    step {
      # Not by the result's hash alone: an older result must not be taken for a new one.
      name = "post-build-${builtins.substring 0 16 locked.sees}.tar";
      tree = packageSet.buildRoot;
      python = packageSet.modelPython;
      program = ./tools/post_build.py;
      beside = {
        "descendants.py" = ./tools/descendants.py;
        "disguises.py" = ./tools/disguises.py;
        "landlock.py" = ./tools/landlock.py;
        "variation.py" = ./tools/variation.py;
      }
      // (if run.fakeTime == null then { } else { "libfaketime.so.1" = run.fakeTime; })
      // (if run.certificates == null then { } else { "certificates.crt" = run.certificates; });
      model = view;
      bound = map (file: { inherit (file) path executable stored; }) seen;
      config = {
        inherit (spec) module class;
        inherit (run) secrets;
        certificates = if run.certificates == null then null else "/tmp/step/certificates.crt";
        variables = locked.environment or [ ];
        environment = import ./environment.nix { inherit cuda packageSet spec; };
        variation = {
          inherit (run) again;
          baseline = locked.baseline-cpu or false;
          fake-time = if run.fakeTime == null then null else "/tmp/step/libfaketime.so.1";
        };
      };
      fixed = {
        inherit (run) sha256;
        variables = locked.environment or [ ];
      };
    };
in
{
  inherit make;

  # Those of the model's files that it has written anew.
  replaces = locked.replaces or [ ];

  # What must hold for an image, and is not in it.
  requires = if locked == null then [ ] else [ view ];

  contents =
    if locked == null then
      [ ]
    else
      [
        {
          layer = "post-build";
          label = "what post_build made";
          inherit (locked) size;
          inputs = [
            (
              {
                kind = "tar";
                path = make plain;
                uid = 65532;
                gid = 0;
              }
              # So much is weights for the most part, which take minutes and do not compress.
              // (if locked.size > 1024 * 1024 * 1024 then { stored = true; } else { })
            )
          ];
        }
      ];
}
