# Files that are in an image by their hash alone, as its contents: what the model declares in `files`, and what of its
# own folder is too big to travel with its code.
{ fetch, quoted }:
let
  # Owned as the model's own files are. base: the folder in the image that `to` is relative to.
  placed = base: to: attributes: {
    kind = "placed";
    inherit base to;
    uid = 65532;
    gid = 0;
    directory-mode = "0775";
  } // attributes;

  stored =
    file:
    fetch {
      file = baseNameOf file.path;
      inherit (file) sha256;
      missing = file.missing or null;
    };

  # What is big stands alone, and is stored as it is: weights do not compress.
  content =
    layer: label: base: to: file:
    let
      input = placed base to {
        path = stored (file // { path = to; });
        inherit (file) sha256;
        executable = file.executable or false;
      };
    in
    {
      inherit layer label;
      inherit (file) size;
      inputs = [ input ];
      alone.inputs = [ (input // { stored = true; }) ];
    };

  download = file: content "files" file.to "app" file.to file;

  # Where the hub's own library keeps what it has downloaded, below HF_HOME (environment.nix): a snapshot of the commit,
  # and what the branch or tag was.
  cache =
    locked: ".cache/huggingface/hub/${locked.type}s--${builtins.replaceStrings [ "/" ] [ "--" ] locked.repository}";

  repository =
    locked:
    let
      label = "${locked.repository} ${builtins.substring 0 12 locked.commit}";
      base = if inCache locked then "home/nonroot" else "app";
      above = if inCache locked then "${cache locked}/snapshots/${locked.commit}/" else aboveOf locked.to;
    in
    map (file: content "files" label base "${above}${file.path}" file) locked.files;

  aboveOf = to: if to == "." then "" else "${to}/";

  inCache = locked: locked.to or null == null;

  # A commit is looked up by no name. The same name may be declared twice, with other patterns.
  references =
    repositories:
    let
      named = builtins.filter (locked: inCache locked && locked.revision != locked.commit) repositories;
      commits = builtins.listToAttrs (
        map (locked: {
          name = "${cache locked}/refs/${locked.revision}";
          value = locked.commit;
        }) named
      );
    in
    map (to: {
      layer = "files";
      label = "names of commits";
      size = 0;
      inputs = [ (placed "home/nonroot" to { text = commits.${to}; }) ];
    }) (builtins.attrNames commits);

  named = file: file // { missing = "a-big-file-of-the-model-is-not-in-the-nix-store"; };

  putIn =
    file:
    let
      target = "$out/${quoted file.path}";
    in
    ''
      mkdir -p "$(dirname ${target})"
      cp ${stored (named file)} ${target}
      chmod ${if file.executable then "755" else "644"} ${target}
    '';
in
{
  # The lock's `files`.
  declared =
    { downloads ? [ ], repositories ? [ ] }:
    {
      contents =
        map download downloads ++ builtins.concatMap repository repositories ++ references repositories;

      # With a network the library would ask what the branch is by now, and take that.
      variables = if builtins.any inCache repositories then { HF_HUB_OFFLINE = "1"; } else { };
    };

  # One of an export's files.json, as it is in the store: bytes alone, which can't be run.
  one = file: stored (named file);

  # An export's files.json.
  big = map (file: content "model-files" file.path "app" file.path (named file));

  # The model's files with the big ones among them, for what is run on them while the image is built.
  tree =
    { busybox, system, model, files }:
    if files == [ ] then
      model
    else
      derivation {
        name = "model";
        inherit system model;
        builder = "${busybox}/bin/busybox";
        args = [
          "sh"
          "-euc"
          ''
            cp -R $model $out
            chmod -R u+w $out
            ${builtins.concatStringsSep "" (map putIn files)}
          ''
        ];
        PATH = "${busybox}/bin";
      };
}
