# A function that looks at its arguments' names and types first.
#
# known: { <name> = { types, required ? false }; }, or null where any name will do.
what: known: function: given:
let
  isPackage = value: builtins.isPath value || (builtins.isAttrs value && value ? outPath);
  tests = {
    package = isPackage;
    packages = value: builtins.isList value && builtins.all isPackage value;
    strings = value: builtins.isList value && builtins.all builtins.isString value;
    # Not even looked at: it may be what is being made.
    any = _value: true;
    path = value: builtins.isPath value || isPackage value;
  };
  is = value: type: (tests.${type} or (value: builtins.typeOf value == type)) value;

  refuse = problem: throw "stand-in: ${what}: ${problem}";
  wrong = name: "${name} is of type ${builtins.typeOf given.${name}}";
  unknown = builtins.filter (name: !known ? ${name}) (builtins.attrNames given);
  missing = builtins.filter (name: known.${name}.required or false && !given ? ${name}) (
    builtins.attrNames known
  );
  mistyped = builtins.filter (
    name: known ? ${name} && !builtins.any (is given.${name}) known.${name}.types
  ) (builtins.attrNames given);
in
if !builtins.isAttrs given then
  refuse "its argument is no set"
else if known == null then
  function given
else if unknown != [ ] then
  refuse "no argument is called ${builtins.concatStringsSep ", " unknown}"
else if missing != [ ] then
  refuse "${builtins.concatStringsSep ", " missing} missing"
else if mistyped != [ ] then
  refuse (builtins.concatStringsSep ", " (map wrong mistyped))
else
  function given
