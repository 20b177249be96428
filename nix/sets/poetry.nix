# A Python environment made by poetry2nix, from a project that is flat: every package exact, one wheel each. This is the
# only file that knows poetry2nix, which nobody maintains any more.
#
# poetry2nix chooses what belongs to the environment and how a wheel is patched for Nix. Each file comes from the lock,
# by its hash, as in the other package set: `tungsten fetch`, mirrors and wheels that no index has work alike.
{ pkgs, poetry2nix, fetch }:
# python: the interpreter. project: the folder of pyproject.toml and poetry.lock. wheels: the lock's entries, the same
# packages. libraries: packages whose shared libraries the wheels may need. driver: whether some of what they need comes
# with the machine's driver or with NVIDIA's wheels, so that not all of it can be found here. own: wheels of ours.
{ python, project, wheels, libraries, driver, own }:
let
  builder = import poetry2nix { inherit pkgs; };
  passedThrough = builtins.fromJSON (builtins.readFile (poetry2nix + "/known-build-systems.json"));

  # Their libraries alone: cmake and others come with hooks, which would take over the build of every wheel.
  found = pkgs.buildEnv {
    name = "libraries";
    paths = libraries;
    pathsToLink = [ "/lib" ];
    ignoreCollisions = true;
  };

  # Libraries of one wheel that other wheels link to: whoever imports those has imported that one before.
  shared = [
    "libc10*"
    "libtensorflow*"
    "libtorch*"
  ];

  endsIn = end: name: builtins.match ".*${end}" name != null;

  # By an interpreter that knows nothing of the lock: what unpacks and installs wheels is `wheel` and `installer`, and
  # if those were the lock's, each would be needed to make itself.
  build =
    wheel: more:
    python.pkgs.buildPythonPackage (
      {
        pname = wheel.project;
        inherit (wheel) version;
        src = fetch wheel;
        format = "wheel";
        dontStrip = true;
      }
      // more
    );

  patched = old: {
    buildInputs = old.buildInputs or [ ] ++ (if libraries == [ ] then [ ] else [ found ]);
    autoPatchelfIgnoreMissingDeps = if driver then [ "*" ] else shared;
  };

  fromLock = prev: wheel: {
    name = wheel.project;
    value =
      if endsIn "-any[.]whl" wheel.file then
        build wheel { }
      # Of a few projects poetry2nix takes nixpkgs' own build, whatever the lock says; and it patches what says
      # manylinux alone.
      else if builtins.elem wheel.project passedThrough || !endsIn "manylinux[^-]*" wheel.file then
        build wheel (
          patched { buildInputs = pkgs.pythonManylinuxPackages.manylinux2014; }
          // {
            nativeBuildInputs = [ pkgs.autoPatchelfHook ];
          }
        )
      else
        prev.${wheel.project}.overridePythonAttrs (old: patched old // { src = fetch wheel; });
  };
in
(builder.mkPoetryEnv {
  inherit python;
  projectDir = project;
  preferWheels = true;
  groups = [ "main" ];
  checkGroups = [ ];
  # Its table of exceptions is for what is built from source.
  overrides = builder.overrides.withoutDefaults (
    _final: prev: builtins.listToAttrs (map (fromLock prev) wheels)
  );
  extraPackages =
    packages:
    map (
      wheel:
      packages.buildPythonPackage {
        inherit (wheel) pname version;
        src = wheel.file;
        format = "wheel";
      }
    ) own;
}).override
  {
    # Wheels may ship the same file, as NVIDIA's all do, and each has byte-code of its own of it.
    ignoreCollisions = true;
  }
