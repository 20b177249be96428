# The nixpkgs package set: the interface of model-image.nix, from nixpkgs, apt names and a lock's wheels.
#
# environmentOf: poetry.nix. projects: the folder with a Poetry project for the model and one for the server.
# spec: the document; specFile: its path. model: the folder of the model's files. bigFiles: those that are not in there.
{
  pkgs,
  platform,
  locked,
  server,
  spec,
  specFile,
  model,
  bigFiles,
  projects,
  ownSources,
  ownWheels,
  environmentOf,
  aptNames,
  ownWheel,
  programs,
  quoted,
}:
let
  attribute = "python${builtins.replaceStrings [ "." ] [ "" ] locked.python}";
  python =
    pkgs.${attribute} or (throw ''
      tungsten: the nixpkgs of this lock (${locked.release}) has no ${attribute}.
      Lock again with another python_version'');

  systemPackages = aptNames {
    inherit pkgs;
    inherit (locked) cuda;
    names = spec.nixpkgs or { };
  } spec.system-packages;
  libraries = map pkgs.lib.getLib systemPackages;

  # As Debian's essential packages: scripts use them without naming them.
  essential = [
    pkgs.coreutils
    pkgs.diffutils
    pkgs.dockerTools.usrBinEnv
    pkgs.findutils
    pkgs.gnugrep
    pkgs.gnused
    pkgs.gnutar
    pkgs.gzip
  ];

  wheelOf =
    own: source:
    let
      made = ownWheel own source;
    in
    {
      pname = own.name;
      inherit (own) version;
      file =
        pkgs.runCommand made.file
          {
            config = builtins.toJSON made.config;
            passAsFile = [ "config" ];
          }
          ''
            ${python}/bin/python3 -I -B ${programs."pack_wheel.py".path} "$configPath" "$out"
          '';
    };

  environment =
    name: wheels: libraries: own:
    environmentOf {
      inherit
        python
        wheels
        libraries
        own
        ;
      project = projects + "/${name}";
      driver = locked.cuda != null;
    };

  modelEnvironment = environment "model" locked.wheels libraries [ (wheelOf ownWheels.sdk ownSources.sdk) ];
  serverEnvironment =
    environment "server" server.wheels [ ]
      [ (wheelOf ownWheels.server ownSources.server) ];

  settings = pkgs.runCommand "image-settings" { } ''
    mkdir -p "$out/usr/bin" "$out/usr/share" "$out/etc"
    ln -s ${modelEnvironment}/bin/python3 "$out/usr/bin/python3"
    ln -s python3 "$out/usr/bin/python"
    ln -s /share/fonts "$out/usr/share/fonts"
    ln -s ${pkgs.tzdata}/share/zoneinfo "$out/usr/share/zoneinfo"
    ln -s /usr/share/zoneinfo/Etc/UTC "$out/etc/localtime"
  '';

  putIn =
    file:
    "install -D -m ${if file.executable then "755" else "644"} ${file.stored} ${quoted "app/${file.path}"}";

  # Links into the store are nobody's to write: what is the user's is made here, with the owners and modes that the
  # other package set gives it.
  fakeRootCommands = ''
    mkdir -p app home/nonroot tmp
    cp -r ${model}/. app/
    chmod -R u+w app
    ${builtins.concatStringsSep "\n" (map putIn bigFiles)}
    chmod -R u=rwX,g=rwX,o=rX app
    chown -R 65532:0 app home/nonroot
    chmod 0775 app home/nonroot
    chmod 1777 tmp
  '';
  withFolders = build: arguments: build (arguments // { inherit fakeRootCommands; });
in
{
  dockerTools.buildLayeredImage = withFolders pkgs.dockerTools.buildLayeredImage;
  # The same image as a program that writes it to its standard output.
  streaming.buildLayeredImage = withFolders pkgs.dockerTools.streamLayeredImage;

  systemContents = [
    (pkgs.fakeNss.override {
      extraPasswdLines = [ "nonroot:x:65532:0:nonroot:/home/nonroot:/sbin/nologin" ];
      extraGroupLines = [ "nonroot:x:65532:" ];
    })
    pkgs.bash
    pkgs.dockerTools.caCertificates
    pkgs.iana-etc
    pkgs.mailcap
    settings
  ]
  ++ (if systemPackages == [ ] then [ ] else essential ++ systemPackages);

  # Nothing of these is to be had in this set, and locking says so.
  commandContents = [ ];
  fileContents = [ ];
  postBuildContents = [ ];

  # `settings` names the model's environment, and the entry point the server's: so they are in the image.
  pythonContents = [ ];
  serverContents = [ ];

  sourceContents = [
    (pkgs.runCommand "model-spec" { } ''
      mkdir -p "$out/opt/tungsten"
      cp ${specFile} "$out/opt/tungsten/spec.json"
    '')
  ];

  python = "${serverEnvironment}/bin/python3";
  tini = "${pkgs.tini}/bin/tini";
  inherit (locked) cuda;

  environment =
    let
      # nixpkgs' C library reads no ld.so.cache, by which container runtimes announce the driver: these are the folders
      # that they put it in, NixOS's own last.
      driver = [
        "/usr/local/nvidia/lib"
        "/usr/local/nvidia/lib64"
        "/usr/lib/${platform.multiarch}"
        "/usr/lib64"
        "/run/opengl-driver/lib"
      ];
      ofWheels = map (folder: "${modelEnvironment}/${python.sitePackages}/${folder}") locked.cuda.libraries;
      folders =
        (if spec.gpu then driver else [ ])
        ++ (if locked.cuda == null then [ ] else ofWheels)
        # What is opened by name is looked for here.
        ++ map (library: "${library}/lib") libraries;
    in
    if folders == [ ] then { } else { LD_LIBRARY_PATH = builtins.concatStringsSep ":" folders; };
}
