# One fetcher: a lock's entry to a fixed-output derivation of the file.
#
# Its store path depends on the file's name and hash alone, so neither the mirror nor who put it there matters:
# `tungsten fetch` adds the same path, and then nothing is downloaded here.
#
# missing: what to call a file, in an error's words, for which no URL is known; words are parted by `-`.
# own: a folder, or null, with those files that no mirror has, because they are the model's own.
{ facts, storeName, sources, own ? null }:
{ file, sha256, missing ? null, ... }:
let
  name = storeName (baseNameOf file);
  urls = sources.${sha256} or [ ];
  # curl could read files of this machine, too: what an export's sources.json names, somebody else may have written.
  onTheWeb =
    url:
    if builtins.match "[Hh][Tt][Tt][Pp][Ss]?://[^[:space:]]+" url == null then
      throw "tungsten: sources.json has for ${name} what is no http or https URL: ${builtins.toJSON url}"
    else
      url;
  why = if missing == null then "no-mirror-is-known-for" else missing;
in
if own != null && builtins.pathExists (own + "/${name}") then
  builtins.path {
    inherit name sha256;
    path = own + "/${name}";
    recursive = false;
  }
else
derivation {
  inherit name;
  builder = "builtin:fetchurl";
  system = "builtin";
  # No URL is known where an export was made without a mirror, or where the mirror asks for a password. curl quotes
  # this one in its error, so the message says what to do.
  url =
    if urls == [ ] then
      "run-tungsten-fetch://${why}/${name}?run=tungsten-fetch-first"
    else
      onTheWeb (builtins.head urls);
  outputHashMode = "flat";
  outputHashAlgo = "sha256";
  outputHash = sha256;
  executable = false;
  unpack = false;
  preferLocalBuild = true;
  # Nix 2.8 loses an output that mentions a store path, without a word.
  allowedReferences = [ ];
  impureEnvVars = facts.proxy-variables;
}
