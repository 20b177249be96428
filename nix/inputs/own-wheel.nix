# One of our two wheels: its file's name, and what `tools/pack_wheel.py` makes it of.
#
# own: an entry of wheels.json; source: the folder of its modules.
own: source: {
  file = "${builtins.replaceStrings [ "-" ] [ "_" ] own.name}-${own.version}-py3-none-any.whl";
  config = {
    inherit (own) name version requires;
    requires-python = own.requires-python;
    packages.${own.package} = builtins.path {
      name = own.package;
      path = source;
      filter =
        path: _type:
        let
          # What stands in the package's folder itself, or its folder there.
          parts = builtins.split "/" (
            builtins.substring (builtins.stringLength (toString source) + 1) (-1) (toString path)
          );
        in
        baseNameOf path != "__pycache__"
        && builtins.match ".*\\.pyc" path == null
        && (own.modules == null || builtins.elem (builtins.head parts) own.modules);
    };
    scripts = { };
  };
}
