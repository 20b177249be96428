# The debian package set: the interface of model-image.nix, from a lock alone.
{ platform, locked, server, spec, model, ownSources, ownWheels, deb, wheel, source, dockerTools
, importCheck ? null, rootParts ? null }:
let
  version = locked.python;

  modelEnvironment = {
    layer = "wheels";
    prefix = "usr/local";
    sitePackages = "usr/local/lib/python${version}/dist-packages";
    interpreter = "/usr/bin/python${version}";
  };

  serverPrefix = "opt/tungsten/server";
  serverEnvironment = {
    layer = "server";
    prefix = serverPrefix;
    sitePackages = "${serverPrefix}/lib/python${version}/site-packages";
    interpreter = "/${serverPrefix}/bin/python3";
  };

  files = layer: label: entries: {
    inherit layer label;
    size = 0;
    inputs = [
      {
        kind = "files";
        inherit entries;
      }
    ];
  };

  text = path: lines: {
    inherit path;
    type = "file";
    mode = "0644";
    uid = 0;
    gid = 0;
    text = builtins.concatStringsSep "\n" lines + "\n";
  };

  link = path: target: {
    inherit path target;
    type = "link";
    mode = "0777";
    uid = 0;
    gid = 0;
  };

  # Writable for the user of the image, and for any other user id in group 0.
  folder = path: {
    inherit path;
    type = "dir";
    mode = "0775";
    uid = 65532;
    gid = 0;
  };

  # What maintainer scripts would have made, and what no package holds.
  settings = (
    files "settings" "accounts, name service, time zone, home" [
      (text "etc/passwd" [
        "root:x:0:0:root:/root:/usr/sbin/nologin"
        "nonroot:x:65532:0:nonroot:/home/nonroot:/usr/sbin/nologin"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin"
      ])
      (text "etc/group" [
        "root:x:0:"
        "tty:x:5:"
        "mail:x:8:"
        "staff:x:50:"
        "nonroot:x:65532:"
        "nogroup:x:65534:"
      ])
      (text "etc/nsswitch.conf" [
        "passwd: files"
        "group: files"
        "shadow: files"
        "hosts: files dns"
        "networks: files"
        "protocols: files"
        "services: files"
        "ethers: files"
        "rpc: files"
      ])
      (link "etc/localtime" "/usr/share/zoneinfo/Etc/UTC")
      (link "usr/bin/python3" "python${version}")
      (link "usr/bin/python" "python3")
      (folder "home/nonroot")
      (folder "app")
    ]
  );
in
rec {
  inherit dockerTools;

  # Where build steps run: the image without the server, downloads and the model.
  buildRoot = dockerTools.unpackedRoot (systemContents ++ commandContents ++ pythonContents);
  modelPython = "/usr/bin/python${version}";

  systemContents = map deb locked.debs ++ [
    (
      settings
      // {
        # The loader's cache, alternatives and directories' true modes follow from all packages together.
        needsLower = true;
        inputs = map (input: input // { override = true; }) settings.inputs ++ [
          {
            kind = "system";
            alternatives = true;
            ld-so-cache = true;
            architecture = platform.debian;
          }
        ];
      }
    )
  ];

  # The whole image's root, for `tungsten check`: what may be big apart from what is edited.
  root =
    let
      source = builtins.partition (content: content.layer == "model") sourceContents;
    in
    rootParts (
      [ buildRoot ]
      ++ map dockerTools.unpackedRoot (
        builtins.filter (contents: contents != [ ]) [
          serverContents
          fileContents
          postBuildContents
          source.wrong
          source.right
        ]
      )
    );

  # What must succeed before there is an image; `variables` are its own. Nothing of another platform is run.
  checks =
    variables:
    if importCheck == null then
      [ ]
    else
      [
        (importCheck {
          inherit model spec variables;
          tree = buildRoot;
          over = if postBuildContents == [ ] then [ ] else [ (dockerTools.unpackedRoot postBuildContents) ];
          python = modelPython;
        })
      ];

  commandContents = [ ];

  pythonContents =
    map (wheel.locked modelEnvironment) locked.wheels
    ++ map (built: wheel.built modelEnvironment built (source built).wheel) (locked.sources or [ ])
    ++ [ (wheel.own (modelEnvironment // { layer = "sdk"; }) ownWheels.sdk ownSources.sdk) ];

  serverContents = [
    (files "server" "the server's environment" [
      (text "${serverPrefix}/pyvenv.cfg" [
        "home = /usr/bin"
        "include-system-site-packages = false"
        "version = ${version}"
      ])
      (link "${serverPrefix}/bin/python3" "/usr/bin/python${version}")
    ])
  ]
  ++ map (wheel.locked serverEnvironment) server.wheels
  ++ [ (wheel.own serverEnvironment ownWheels.server ownSources.server) ];

  fileContents = [ ];

  postBuildContents = [ ];

  sourceContents = [
    {
      layer = "model";
      label = "the model's files";
      size = 0;
      inputs = [
        {
          kind = "tree";
          path = model;
          destination = "app";
          uid = 65532;
          gid = 0;
          directory-mode = "0775";
        }
        {
          kind = "tree";
          path = spec;
          destination = "opt/tungsten/spec.json";
          uid = 0;
          gid = 0;
          directory-mode = "0755";
        }
      ];
    }
  ];

  python = "/${serverPrefix}/bin/python3";
  tini = "/usr/bin/tini";
  inherit (locked) cuda;
  environment =
    if locked.cuda == null then
      { }
    else
      {
        # torch, TensorFlow and JAX find the libraries of wheels by themselves; onnxruntime, CuPy and others ask the
        # loader by name. /usr/local/nvidia is where hosts that mount their driver put it, as NVIDIA's images expect.
        LD_LIBRARY_PATH = builtins.concatStringsSep ":" (
          [
            "/usr/local/nvidia/lib"
            "/usr/local/nvidia/lib64"
          ]
          ++ map (folder: "/${modelEnvironment.sitePackages}/${folder}") locked.cuda.libraries
        );
      };
}
