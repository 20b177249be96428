# A stand-in for nixpkgs: as much of it as an export uses. It builds nothing, and refuses what nixpkgs would refuse: an
# argument that a function has not got, a required one that is missing, a value of another type.
#
# The arguments of dockerTools are those of nixpkgs' manual (dockerTools, streamLayeredImage and buildLayeredImage).
# lib: nixpkgs' own where a test has it; else the little that we use.
{
  system,
  config,
  overlays,
  lib ? import ./lib.nix,
}:
let
  check = import ./check.nix;

  # A derivation that can be named and depended on, and is never built.
  package =
    name: passed:
    derivation {
      inherit name system;
      builder = "/stand-in";
      args = [ ];
      # All that it was made of is part of its identity, as it is for a real one.
      passed = builtins.toJSON passed;
    };

  named = name: package name { };

  makeOverridable = make: arguments: make arguments // { override = more: make (arguments // more); };

  set =
    names:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = named name;
      }) names
    );

  layered = {
    name.types = [ "string" ];
    name.required = true;
    tag.types = [ "string" "null" ];
    fromImage.types = [ "package" "null" ];
    contents.types = [ "packages" ];
    config.types = [ "set" ];
    architecture.types = [ "string" ];
    created.types = [ "string" ];
    mtime.types = [ "string" ];
    uid.types = [ "int" ];
    gid.types = [ "int" ];
    uname.types = [ "string" ];
    gname.types = [ "string" ];
    maxLayers.types = [ "int" ];
    extraCommands.types = [ "string" ];
    fakeRootCommands.types = [ "string" ];
    enableFakechroot.types = [ "bool" ];
    includeStorePaths.types = [ "bool" ];
    includeNixDB.types = [ "bool" ];
    passthru.types = [ "set" ];
    meta.types = [ "set" ];
    layeringPipeline.types = [ "path" "null" ];
    debug.types = [ "bool" ];
  };

  image =
    kind: arguments:
    if builtins.match "[a-z0-9._/-]+" arguments.name == null then
      throw "${kind}: the name ${arguments.name} is not in lower case"
    else
      package "${arguments.name}.tar.gz" arguments // { inherit arguments kind; };

  pkgs = set [
    "bash"
    "coreutils"
    "dejavu_fonts"
    "diffutils"
    "ffmpeg"
    "findutils"
    "git"
    "glib"
    "gnugrep"
    "gnused"
    "gnutar"
    "gzip"
    "iana-etc"
    "libGL"
    "mailcap"
    "tini"
    "tzdata"
  ]
  // {
    inherit check lib system;
    inherit (import ./python.nix { inherit check lib package pkgs; })
      python310
      python311
      python312
      python313
      ;

    # What the real poetry2nix asks for beside; it needs nixpkgs' own lib.
    newScope = more: lib.callPackageWith (pkgs // more);
    stdenv = {
      isDarwin = false;
      isLinux = true;
      cc.cc = named "gcc" // {
        lib = named "gcc-lib";
      };
      cc.libc = {
        pname = "glibc";
        version = "2.40";
      };
      targetPlatform = lib.systems.elaborate system;
      hostPlatform = pkgs.stdenv.targetPlatform;
    };
    stdenvNoCC.mkDerivation = given: package given.name { } // given;
    pythonManylinuxPackages.manylinux2014 = [ (named "manylinux2014") ];
    autoPatchelfHook = named "auto-patchelf-hook";
    curl = named "curl";
    jq = named "jq";

    xorg = set [ "libSM" "libXext" ];
    cudaPackages_12_4 =
      if config.allowUnfree then set [ "cudnn" ] else throw "stand-in: refusing to evaluate an unfree package";

    fakeNss = makeOverridable (
      check "fakeNss" {
        extraPasswdLines.types = [ "strings" ];
        extraGroupLines.types = [ "strings" ];
      } (package "fake-nss")
    ) { };

    runCommand =
      name: variables: text:
      assert builtins.isString name && builtins.isString text;
      package name (check "runCommand ${name}" null (given: given) variables // { inherit text; });

    buildEnv = check "buildEnv" {
      name.types = [ "string" ];
      name.required = true;
      paths.types = [ "packages" ];
      paths.required = true;
      pathsToLink.types = [ "strings" ];
      ignoreCollisions.types = [ "bool" ];
    } (arguments: package arguments.name (map toString arguments.paths) // { inherit arguments; });

    dockerTools = {
      caCertificates = named "ca-certificates";
      usrBinEnv = named "usr-bin-env";
      streamLayeredImage = check "streamLayeredImage" layered (image "stream");
      buildLayeredImage = check "buildLayeredImage" (
        layered // { compressor.types = [ "string" ]; }
      ) (image "archive");
    };
  };
in
assert overlays == [ ];
pkgs
