# Interpreters, with as much of their package sets as poetry2nix and our wheels use.
{ check, lib, package, pkgs }:
let
  # nixpkgs' lib.fix and lib.extends.
  fix =
    function:
    let
      self = function self;
    in
    self;
  extends =
    overlay: function: self:
    let
      before = function self;
    in
    before // overlay self before;

  buildPythonPackage =
    python: arguments:
    package "${python.libPrefix}-${arguments.pname}-${arguments.version}" {
      inherit (arguments) pname version;
      src = "${arguments.src}";
      # What a wheel is unpacked and installed by is built before it.
      hooks =
        if arguments.format == "wheel" then
          map toString [ python.pkgs.wheelUnpackHook python.pkgs.pypaInstallHook ]
        else
          [ ];
    }
    // {
      inherit (arguments) pname version format src;
      inherit arguments;
      # nixpkgs' package sets ask for it.
      pythonModule = true;
      overridePythonAttrs = change: checkedBuild python (arguments // change arguments);
    };

  checkedBuild =
    python:
    check "buildPythonPackage" {
      pname = {
        types = [ "string" ];
        required = true;
      };
      version = {
        types = [ "string" ];
        required = true;
      };
      src = {
        types = [ "package" ];
        required = true;
      };
      format = {
        types = [ "string" ];
        required = true;
      };
      buildInputs.types = [ "list" ];
      nativeBuildInputs.types = [ "list" ];
      propagatedBuildInputs.types = [ "list" ];
      autoPatchelfIgnoreMissingDeps.types = [ "bool" "strings" ];
      dontStrip.types = [ "bool" ];
      doCheck.types = [ "bool" ];
      passthru.types = [ "set" ];
      meta.types = [ "set" ];
      # Where it stands, for messages.
      pos.types = [ "set" "null" ];
    } (buildPythonPackage python);

  interpreter =
    minor: packageOverrides:
    let
      # Projects that a lock may have, too.
      ofNixpkgs = builtins.listToAttrs (
        map (name: {
          inherit name;
          value = checkedBuild self {
            pname = name;
            version = "0-of-nixpkgs";
            format = "pyproject";
            src = package "${name}-source" { };
          };
        }) [ "installer" "setuptools" "wheel" ]
      );
      self = package "python3-3.${minor}.0" { } // {
        version = "3.${minor}.0";
        pythonVersion = "3.${minor}";
        libPrefix = "python3.${minor}";
        passthru = {
          implementation = "cpython";
          sourceVersion = {
            major = "3";
            inherit minor;
            patch = "0";
          };
        };
        sitePackages = "lib/python3.${minor}/site-packages";
        pythonOnBuildForHost = self;
        inherit (pkgs) stdenv;
        meta.platforms = [ ];
        pkgs = fix (
          extends packageOverrides (packages: {
            inherit lib;
            python = self;
            isPy27 = false;
            buildPythonPackage = checkedBuild self;
            callPackage = lib.callPackageWith (pkgs // packages // { inherit pkgs; });
            makeSetupHook = _: _: null;
            hasPythonModule = one: one ? pythonModule;
            # The interpreter is a dependency, too, and null stands for what is not needed.
            requiredPythonModules = builtins.filter (one: one ? pythonModule);
            wheelUnpackHook = package "wheel-unpack-hook" (toString packages.wheel);
            pypaInstallHook = package "pypa-install-hook" (toString packages.installer);
            fetchPypiLegacy = null;
          } // ofNixpkgs)
        );
        override =
          check "python.override" {
            packageOverrides.types = [ "lambda" ];
            self.types = [ "any" ];
          } (changed: interpreter minor changed.packageOverrides);
        withPackages =
          choose:
          let
            packages = choose self.pkgs;
            environment =
              package "python3-3.${minor}.0-env" (map toString packages) // { inherit packages; };
          in
          environment
          // {
            override = check "python.buildEnv.override" {
              extraLibs.types = [ "packages" ];
              ignoreCollisions.types = [ "bool" ];
              permitUserSite.types = [ "bool" ];
              postBuild.types = [ "string" ];
            } (_: environment);
          };
      };
    in
    self;
in
builtins.listToAttrs (
  map
    (minor: {
      name = "python3${minor}";
      value = interpreter minor (_final: _prev: { });
    })
    [
      "10"
      "11"
      "12"
      "13"
    ]
)
