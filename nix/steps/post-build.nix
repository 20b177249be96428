# What a model's post_build makes: one fixed-output tar, made in the image's own root with the network.
#
# spec: the document's value. locked: the lock's, for the platform. buildRoot: the root and the Python that it runs in.
# underneath: what lies below that. runner: the builder of the platform that the image is for. runByImagePython: runs a
# program by the model's own Python version. bigFiles: those of the model's files that are not in its folder.
{
  spec,
  locked,
  model,
  bigFiles,
  buildRoot,
  underneath,
  programs,
  runner,
  runByImagePython,
  environment,
}:
let
  result = locked.post-build or null;
  program = programs."post_build.py";

  seen = builtins.filter (file: result.files ? ${file.path}) bigFiles;

  # What it sees of the model; made from the model's files at each build, and checked: a result must not outlive them.
  view = runByImagePython {
    name = "view-of-post-build";
    tool = "post_build_view.py";
    config = {
      inherit model;
      inherit (spec) module class;
      inherit (result) files;
      big = builtins.listToAttrs (
        map (file: {
          name = file.path;
          value = file.sha256 + (if file.executable then " x" else "");
        }) seen
      );
    };
  };

  # As every build runs it.
  plain = {
    again = false;
    fakeTime = null;
    certificates = null;
    secrets = "";
    inherit (result) sha256;
  };

  make =
    run:
    runner.step {
      # Not by the result's hash alone: an older result must not be taken for a new one.
      name = "post-build-${builtins.substring 0 16 result.sees}.tar";
      inherit (buildRoot) tree python;
      program = program.path;
      beside = builtins.listToAttrs (
        map (file: {
          name = "lib/${file}";
          value = "${program.folder}/lib/${file}";
        }) program.lib
      )
      // (if run.fakeTime == null then { } else { "libfaketime.so.1" = run.fakeTime; })
      // (if run.certificates == null then { } else { "certificates.crt" = run.certificates; });
      model = view;
      bound = map (file: { inherit (file) path executable stored; }) seen;
      config = {
        inherit (spec) module class;
        inherit (run) secrets;
        certificates = if run.certificates == null then null else "/tmp/step/certificates.crt";
        variables = result.environment or [ ];
        environment = environment { inherit spec underneath; };
        variation = {
          inherit (run) again;
          baseline = result.baseline-cpu or false;
          fake-time = if run.fakeTime == null then null else "/tmp/step/libfaketime.so.1";
        };
      };
      fixed = {
        inherit (run) sha256;
        variables = result.environment or [ ];
      };
    };
in
{
  inherit make;

  # Those of the model's files that it has written anew.
  replaces = result.replaces or [ ];

  # What must hold for an image, and is not in it.
  requires = if result == null then [ ] else [ view ];

  contents =
    if result == null then
      [ ]
    else
      [
        {
          layer = "post-build";
          label = "what post_build made";
          inherit (result) size;
          inputs = [
            (
              {
                kind = "tar";
                path = make plain;
                uid = 65532;
                gid = 0;
              }
              # So much is weights for the most part, which take minutes and do not compress.
              // (if result.size > 1024 * 1024 * 1024 then { stored = true; } else { })
            )
          ];
        }
      ];
}
