# tungsten itself as an image, for machines that have nothing but an engine: of Debian's packages and Python's, locked
# beside this file as a model's are, and put together by what puts models' images together. So it is the same to the
# bit wherever it is built.
#
#   packages.<system>.tungsten-image, -dir               for that platform
#   packages.<system>.tungsten-image-<platform>, -dir    for any platform of the lock; nothing of it is run
#
# nix: the table of contents of ../nix. checkout: this repository.
{ nix, checkout }:
let
  inherit (builtins)
    attrNames
    foldl'
    fromTOML
    mapAttrs
    readFile
    ;

  exported = nix.scope.exported "debian" {
    # Whatever a model's declaration would say, this image has not.
    spec = throw "tungsten's own image is no model's";
    model = throw "tungsten's own image has no model";
    ownSources = { };
    compression = "gzip";
    lock = ./tungsten.lock;
    # `tungsten fetch builder` brings what the lock names into the store.
    sources = ./sources.json;
  };

  builders = mapAttrs (
    system: tools:
    nix.scope.builder {
      inherit system tools;
      inherit (exported) fetch;
    }
  ) exported.lock.tools;

  pyproject = fromTOML (readFile (checkout + "/pyproject.toml"));
  inherit (pyproject) project;

  # As hatchling makes it.
  tungsten = {
    inherit (project) name scripts version;
    requires = project.dependencies;
    requires-python = project.requires-python;
    package = "tungstenkit";
    modules = null;
    more = builtins.listToAttrs (
      map (folder: {
        name = wheel.force-include.${folder};
        value = checkout + "/${folder}";
      }) (attrNames wheel.force-include)
    );
  };
  inherit (pyproject.tool.hatch.build.targets) wheel;

  # Whoever the container runs as: its own Nix, with its store, and what is cached. A volume there outlives containers.
  home = "/tungsten";

  variables = {
    HOME = "/tmp/home"; # of nobody, until who needs it makes it: Nix takes no other user's
    LANG = "C.UTF-8";
    PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    # Byte-code is in the image already.
    PYTHONDONTWRITEBYTECODE = "1";
    SSL_CERT_FILE = "/etc/ssl/certs/ca-certificates.crt";
    TUNGSTEN_HOME = home;
    XDG_CACHE_HOME = "${home}/cache";
  };

  imageFor =
    system: target:
    let
      parts = nix.scope.target exported builders system target;
      inherit (parts) locked underneath;
      inherit (nix.stated) files folder link;
      environment = underneath.modelEnvironment;
      open = path: folder path // {
        mode = "1777";
        uid = 0;
      };
    in
    parts.dockerTools.buildLayeredImage {
      name = "tungsten";
      inherit (parts) created;
      contents =
        underneath.systemContents
        ++ parts.wheel.locked (environment // { layer = "wheels"; }) (entry: (parts.source entry).wheel) (
          locked.wheels ++ locked.sources or [ ]
        )
        ++ [
          (files "places" "the model's folder, tungsten's own, and where Debian's packages come from" [
            (folder "model")
            (open (builtins.substring 1 (-1) home))
            (link "etc/apt/sources.list.d/debian.sources" "/usr/share/doc/apt/examples/debian.sources")
          ])
          (parts.wheel.own (environment // { layer = "tungsten"; }) tungsten (checkout + "/tungstenkit"))
        ];
      config = {
        Entrypoint = [
          underneath.tini
          "--"
          "/usr/local/bin/tungsten"
        ];
        Cmd = [ "--help" ];
        Env = map (name: "${name}=${variables.${name}}") (attrNames variables);
        Labels = {
          "org.opencontainers.image.created" = parts.created;
          "org.opencontainers.image.title" = "tungsten";
          "org.opencontainers.image.version" = project.version;
        };
        # No root: what Nix then needs of an engine is less.
        User = "65532:0";
        WorkingDir = "/model";
      };
    };

  both = name: made: {
    ${name} = made;
    "${name}-dir" = made.layout;
  };
in
{
  packages = mapAttrs (
    system: _:
    foldl' (all: target: all // both "tungsten-image-${target}" (imageFor system target)) (
      if exported.lock.platforms ? ${system} then both "tungsten-image" (imageFor system system) else { }
    ) (attrNames exported.lock.platforms)
  ) builders;
}
