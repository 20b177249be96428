# The programs of tools/, by their files' names: each in a folder with what it imports of tools/lib/, and nothing else.
# So a change of one of them makes nothing again that another has made.
#
# folder: that folder. lib: the names of the files in its lib/. path: the program in it.
let
  tools = ../tools;
  lib = builtins.readDir (tools + "/lib");

  # Modules of ours that a file imports; what is imported for types alone is indented.
  importsOf =
    file:
    builtins.filter (module: lib ? "${module}.py") (
      map (words: builtins.elemAt words 1) (
        builtins.filter builtins.isList (builtins.split "\n(from|import) ([a-z_]+)" (builtins.readFile file))
      )
    );

  modules = builtins.mapAttrs (file: _type: importsOf (tools + "/lib/${file}")) lib;

  # By all that these import in turn. A module's data has its name.
  filesOf =
    program:
    let
      closure = builtins.genericClosure {
        startSet = map (key: { inherit key; }) (importsOf (tools + "/${program}"));
        operator = { key }: map (key: { inherit key; }) modules."${key}.py";
      };
    in
    builtins.filter (file: lib ? ${file}) (
      builtins.concatMap ({ key }: [ "${key}.py" "${key}.json" ]) closure
    );

  one =
    program: _type:
    let
      files = filesOf program;
      wanted = [ program ] ++ (if files == [ ] then [ ] else [ "lib" ]) ++ files;
      folder = builtins.path {
        name = "tungsten-tools";
        path = tools;
        filter = path: _type: builtins.elem (baseNameOf path) wanted;
      };
    in
    {
      inherit folder;
      lib = files;
      path = "${folder}/${program}";
    };
in
builtins.mapAttrs one (builtins.readDir tools)
