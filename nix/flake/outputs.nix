# From an export's documents to its flake's outputs, for each platform of the lock and each platform that it has tools
# for:
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
# scope: how an image's parts are tied together. paths: what `scope.exported` takes.
{ scope, environment, ... }:
paths:
let
  exported = scope.exported "debian" paths;
  inherit (exported) lock spec;

  builders = builtins.mapAttrs (
    system: tools:
    scope.builder {
      inherit system tools;
      inherit (exported) fetch;
    }
  ) lock.tools;

  # By the system that builds, and the platform of the image.
  targets = builtins.mapAttrs (
    system: _: builtins.mapAttrs (target: _: scope.target exported builders system target) lock.platforms
  ) builders;

  # It runs the image's programs here, so it is for the builder's own platform.
  shell =
    system:
    let
      target = targets.${system}.${system};
      inherit (target) buildRoot locked underneath;
    in
    builders.${system}.shell {
      inherit (spec) name;
      root = buildRoot.tree;
      interpreter = buildRoot.python;
      version = locked.python;
      variables = environment { inherit spec underneath; };
      title = "Python ${locked.python} on ${
        if locked ? base-image then locked.base-image.reference else "Debian ${locked.release}"
      }, as in the image";
    };

  # Both forms of an image: one file, and a folder whose blobs are links.
  forms = name: made: {
    "model-image${name}" = made;
    "model-image${name}-dir" = made.layout;
  };

  # For a system that builds: `for` of every platform's image, by the platform's name and by none for its own.
  everyImage =
    system: for:
    let
      images = builtins.mapAttrs (_target: parts: parts.modelImage) targets.${system};
      each = map (name: for "-${name}" images.${name}) (builtins.attrNames images);
      own = if images ? ${system} then for "" images.${system} else { };
    in
    builtins.foldl' (all: more: all // more) own each;

  whereItRuns = system: value: if lock.platforms ? ${system} then value else { };
in
{
  packages = builtins.mapAttrs (
    system: _builder:
    everyImage system forms
    // whereItRuns system {
      default = targets.${system}.${system}.modelImage;
      shell = (shell system).programs;
    }
  ) builders;

  apps = builtins.mapAttrs (
    system: builder:
    let
      app = program: {
        type = "app";
        program = toString program;
      };
    in
    everyImage system (
      name: made: {
        "stream-image${name}" = app (builder.apps.stream made.layout);
        "push-image${name}" = app (builder.apps.push made.layout);
      }
    )
    // whereItRuns system { shell = app "${(shell system).programs}/start"; }
  ) builders;

  devShells = builtins.mapAttrs (
    system: _builder: whereItRuns system { default = (shell system).develop; }
  ) builders;

  lib.steps = builtins.mapAttrs (
    target: _locked:
    let
      parts = targets.${target}.${target};
    in
    {
      post-build = parts.postBuild.make;
    }
    // parts.commands.steps
  ) lock.platforms;
}
