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
        if own.modules == null then
          baseNameOf path != "__pycache__" && builtins.match ".*\\.pyc" path == null
        else
          builtins.elem (baseNameOf path) own.modules;
    };
    scripts = { };
  };
}
