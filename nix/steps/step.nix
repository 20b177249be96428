# A program of tools/ that runs by an image's own Python, in the image's own root: one derivation.
#
# tree: the root, unpacked (`dockerTools.unpackedRoot`). python: a path in it. program: of tools/; it gets its
# configuration as JSON, and makes a file or a folder. beside: further files that it finds in its own folder, by name.
# model: files that are copied to /app, or null.
# bound: { path, stored, executable }, files of the store that are in /app, too.
# over: folders whose /app and HOME lie over that; their big files are not copied.
# fixed: null, or { sha256, variables }: a flat file of that hash, made with the network, by a program that also gets
# these variables of whoever builds.
#
# Around it runs `enter`: a command of our own Python's, from nix/steps/enter.nix.
{ busybox, enter, facts, system }:
{ name, tree, python, program, config, beside ? { }, model ? null, bound ? [ ], over ? [ ], fixed ? null }:
derivation (
  {
    inherit
      name
      system
      tree
      python
      program
      model
      over
      ;
    builder = "${busybox}/bin/busybox";
    args = [ "sh" "-euc" ". ${../tools/step.sh}" ];
    PATH = "${busybox}/bin";
    inherit enter;
    config = builtins.toJSON config;
    bound = builtins.concatStringsSep "\n" (
      builtins.concatMap (file: [
        file.path
        (toString file.stored)
        (if file.executable then "755" else "644")
      ]) bound
    );
    passAsFile = [ "config" ];
    beside = builtins.concatMap (file: [ file beside.${file} ]) (builtins.attrNames beside);
  }
  // (
    if fixed == null then
      { }
    else
      {
        network = "1";
        outputHashMode = "flat";
        outputHashAlgo = "sha256";
        outputHash = fixed.sha256;
        # Nix 2.8 loses an output that mentions a store path, without a word.
        allowedReferences = [ ];
        impureEnvVars = facts.proxy-variables ++ fixed.variables;
      }
  )
)
