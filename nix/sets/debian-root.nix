# The system below the model, where it is Debian's own: the root of packages, and Python among them.
#
# Gives systemContents, replacedContents (what the model's packages take the place of), modelEnvironment (where these
# go), pythonHome, tini, environment, and base, which is null here: what base-root.nix takes over from a base image's
# configuration.
{ deb, locked, platform, stated }:
let
  inherit (stated) files folder link overriding text;
  version = locked.python;

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
{
  base = null;
  replacedContents = [ ];
  environment = { };
  tini = "/usr/bin/tini";
  pythonHome = "/usr/bin";
  modelEnvironment = {
    prefix = "usr/local";
    sysPrefix = "usr";
    sitePackages = "usr/local/lib/python${version}/dist-packages";
    interpreter = "/usr/bin/python${version}";
  };

  systemContents = map deb locked.debs ++ [
    (
      settings
      // {
        # The loader's cache, alternatives and directories' true modes follow from all packages together.
        needsLower = true;
        inputs = overriding settings.inputs ++ [
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
}
