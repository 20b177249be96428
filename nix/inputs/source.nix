# A lock's source to the wheel that is built from it, without network, in a root of its own.
#
# `built` is a folder with the wheel in it. `wheel` is the same file fixed by the hash that sealing recorded: where it
# is in the store, as after sealing, nothing is built; elsewhere it is built again, and must be the same.
#
# A build runs what it is given, so it runs on the platform that the wheel is for, with the lock's tools for that. The
# arguments are those of a builder for it; python: the version that the wheel is for; source: the lock's entry.
{ busybox, enter, fetch, runTool, storeName, system }:
python:
let
  shell =
    name: script: variables:
    derivation (
      variables
      // {
        inherit name system;
        builder = "${busybox}/bin/busybox";
        args = [ "sh" "-euc" script ];
        PATH = "${busybox}/bin";
      }
    );

  # Unlike an image's root this one is never shipped, so what maintainer scripts would have done is a few links.
  rootOf =
    debs:
    shell "build-root" ''
      . ${../tools/unpack.sh}
      busybox mkdir -p "$out/usr/local" "$out/etc"
      link() { [ -e "$out/usr/bin/$2" ] || [ ! -e "$out/usr/bin/$1" ] || busybox ln -s "$1" "$out/usr/bin/$2"; }
      link dash sh
      link gawk awk
      link gcc cc
      link g++ c++
      link "python$python" python3
      link "python$python" python
      echo "root:x:0:0:root:/project:/bin/sh" > "$out/etc/passwd"
      echo "root:x:0:" > "$out/etc/group"
    '' {
      inherit python;
      debs = map fetch debs;
    };

  # The build requirements, laid out as they are in an image.
  environmentOf =
    wheels:
    runTool {
      name = "build-requirements";
      tool = "layer.py";
      config = {
        created-by = "build requirements";
        python = null;
        lower = [ ];
        inputs = map (wheel: {
          kind = "wheel";
          inherit (wheel) file;
          path = fetch wheel;
          prefix = "usr/local";
          site-packages = "usr/local/lib/python${python}/dist-packages";
          interpreter = "/usr/bin/python${python}";
          override = true;
        }) wheels;
      };
    };
in
source:
let
  built = shell (storeName "${source.project}-${source.version}-wheel") ". ${../tools/build-wheel.sh}" {
    inherit enter python;
    root = rootOf source.build.debs;
    environment = environmentOf source.build.wheels;
    archive = fetch source;
    program = ../tools/build_wheel.py;
    config = builtins.toJSON {
      inherit (source) file project version;
      inherit (source.build) backend backend-path;
      environment = source.build.environment or { };
      subdirectory = source.subdirectory or "";
    };
    passAsFile = [ "config" ];
  };
in
{
  inherit built;
  wheel = derivation {
    name = storeName source.wheel;
    inherit system;
    builder = "${busybox}/bin/busybox";
    args = [ "cp" "${built}/${source.wheel}" (builtins.placeholder "out") ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = source.wheel-sha256;
    allowedReferences = [ ];
  };
}
