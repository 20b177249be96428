# The system below the model, where it is a base image: its layers as they are, and beside them what it lacks.
#
# Gives what debian-root.nix gives. Without a Python of its own the base gets Debian's, in a prefix of its own: a
# package's own loader starts it, so that neither C library meets the other's programs.
{ deb, locked, platform, stated }:
let
  inherit (stated) files folder link overriding text;
  base = locked.base-image;
  version = locked.python;

  tools = "opt/tungsten";
  busybox = "${tools}/bin/busybox";
  prefix = "${tools}/python";
  libraries = "/${prefix}/usr/lib/${platform.multiarch}";
  program = "${prefix}/usr/libexec/python${version}";

  ours = base.python == null;
  python =
    if ours then
      {
        path = "/${prefix}/usr/bin/python${version}";
        home = "/${prefix}/usr/bin";
        prefix = "/${prefix}/usr/local";
        site-packages = "/${prefix}/usr/local/lib/python${version}/dist-packages";
      }
    else
      base.python;

  # Debian's own, in whose prefix is a folder for what others install (Debian Python policy, "Module path").
  debians =
    if builtins.match ".*/dist-packages" python.site-packages == null then
      null
    else
      builtins.match "(/.+)/local" python.prefix;

  relative = path: builtins.substring 1 (builtins.stringLength path) path;

  # Of a package that is wanted for a few files alone.
  single = name: places: content: content // {
    layer = "base-tools";
    inputs = map (
      input:
      input
      // {
        places = places // {
          "usr/share/doc/${name}/copyright" = "${tools}/share/doc/${name}/copyright";
        };
      }
    ) content.inputs;
  };
  singles = {
    tini = single "tini" { "usr/bin/tini-static" = "${tools}/bin/tini"; };
    busybox-static = single "busybox-static" { "usr/bin/busybox" = busybox; };
    ca-certificates = single "ca-certificates" {
      "etc/ssl/certs/ca-certificates.crt" = "${tools}/etc/ca-certificates.crt";
    };
  };

  private =
    content:
    content
    // {
      inputs = map (
        input:
        input
        // {
          below = prefix;
          places."usr/bin/python${version}" = program;
        }
      ) content.inputs;
    };

  placed = entry: (if entry.group == "python" then private else singles.${entry.name}) (deb entry);

  # What a RUN of apt installs: one content, so that it is one layer, which has dpkg's records of all of it.
  added = map deb base.added.debs;
  installed =
    if !(base ? added) || added == [ ] then
      [ ]
    else
      [
        {
          layer = "debian-system";
          label = builtins.concatStringsSep ", " (map (content: content.label) added);
          size = builtins.foldl' (sum: content: sum + content.size) 0 added;
          inputs =
            map (input: input // { dpkg = true; }) (builtins.concatMap (content: content.inputs) added)
            ++ [ { kind = "dpkg"; } ];
        }
      ];

  # By its loader it finds its own libraries; what programs of the base start from it finds theirs.
  started = [
    "#!/${busybox} sh"
    (
      "exec ${libraries}/${platform.loader} --argv0 \"$0\""
      + " --library-path \"${libraries}\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\" /${program} \"$@\""
    )
  ];

  settings = files "settings" "accounts, home" (
    [
      (folder "home/nonroot")
      (folder "app")
    ]
    ++ (
      if ours then
        [
          (text "${prefix}/usr/bin/python${version}" started // { mode = "0755"; })
          (link "${prefix}/usr/bin/python3" "python${version}")
          (link "${prefix}/usr/bin/python" "python3")
        ]
      else
        [ ]
    )
  );
in
{
  inherit base;
  tini = "/${tools}/bin/tini";
  pythonHome = python.home;
  modelEnvironment = {
    prefix = relative python.prefix;
    sitePackages = relative python.site-packages;
    interpreter = python.path;
  }
  // (if debians == null then { } else { sysPrefix = relative (builtins.head debians); });
  environment = {
    SSL_CERT_FILE = if base.certificates == null then "/${tools}/etc/ca-certificates.crt" else base.certificates;
  }
  // (
    if ours then
      {
        # After the base's own, so that what the base starts by name stays what it was.
        PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${python.prefix}/bin:${python.home}";
      }
    else
      { }
  );

  # What the model asks for takes the place of what the base has, as if pip had installed it there.
  replacedContents =
    if ours || base.python.replaces or [ ] == [ ] then
      [ ]
    else
      [
        {
          layer = "replaced";
          label = "without ${builtins.concatStringsSep ", " base.python.replaces} of the base image";
          size = 0;
          inputs = [
            {
              kind = "replaced";
              projects = base.python.replaces;
              inherit (base.python) site-packages;
            }
          ];
        }
      ];

  systemContents = installed ++ map placed locked.debs ++ [
    (settings // { inputs = overriding settings.inputs ++ [ { kind = "accounts"; } ]; })
  ];
}
