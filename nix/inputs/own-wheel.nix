# A wheel of our own sources: its file's name, and what `tools/pack_wheel.py` makes it of.
#
# own: an entry of wheels.json, or as one, with `scripts`, and `more` folders by where they are in it. source: the
# folder of its modules.
own: source:
let
  filesOf =
    name: folder: isWanted:
    builtins.path {
      inherit name;
      path = folder;
      filter =
        path: _type:
        baseNameOf path != "__pycache__"
        && builtins.match ".*\\.pyc" path == null
        # What stands in the folder itself, or its folder there.
        && isWanted (
          builtins.head (
            builtins.split "/" (builtins.substring (builtins.stringLength (toString folder) + 1) (-1) (toString path))
          )
        );
    };
in
{
  file = "${builtins.replaceStrings [ "-" ] [ "_" ] own.name}-${own.version}-py3-none-any.whl";
  config = {
    inherit (own) name version requires;
    requires-python = own.requires-python;
    packages = {
      ${own.package} = filesOf own.package source (
        part: own.modules == null || builtins.elem part own.modules
      );
    }
    // builtins.mapAttrs (_place: folder: filesOf (baseNameOf folder) folder (_part: true)) (own.more or { });
    scripts = own.scripts or { };
  };
}
