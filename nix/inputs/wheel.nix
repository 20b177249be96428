# Wheels as contents of an image, and wheels made from our own sources.
{ fetch, ownWheel, runTool }:
let
  content =
    environment: label: size: { file, path }: winners:
    let
      place = {
        inherit file path;
        inherit (environment) prefix interpreter;
        site-packages = environment.sitePackages;
        # A lock says who wins where two wheels ship one file with other content; else it does not matter.
        override = true;
      }
      // (if winners == [ ] then { } else { yields-to = winners; })
      // (if environment ? sysPrefix then { sys-prefix = environment.sysPrefix; } else { });
    in
    {
      inherit (environment) layer;
      inherit label size;
      inputs = [ (place // { kind = "wheel"; }) ];
      byteCode = true;
      # A big wheel gets a layer of its own, whose bytes are the wheel's own compressed streams.
      alone = {
        inputs = [
          (
            place
            // {
              kind = "wheel";
              splice = true;
            }
          )
        ];
        byteCodeInputs = [ (place // { kind = "wheel-byte-code"; }) ];
      };
    };
in
{
  # environment: { layer, prefix, sitePackages, interpreter, sysPrefix }, the last only where it is not `prefix`.
  # built: a source to its wheel. entries: a lock's wheels and sources.
  locked =
    environment: built: entries:
    let
      fileOf =
        entry:
        if entry ? build then
          {
            file = entry.wheel;
            path = built entry;
          }
        else
          {
            inherit (entry) file;
            path = fetch entry;
          };
      files = builtins.listToAttrs (
        map (entry: {
          name = entry.project;
          value = fileOf entry;
        }) entries
      );
    in
    map (
      entry:
      content environment "${entry.project} ${entry.version}" (entry.wheel-size or entry.size)
        files.${entry.project}
        (map (winner: files.${winner}) (entry.yields-to or [ ]))
    ) entries;

  # own: an entry of wheels.json; source: the folder of its modules.
  own =
    environment: own: source:
    let
      inherit (ownWheel own source) file config;
      wheel = runTool {
        inherit config;
        name = file;
        tool = "pack_wheel.py";
      };
    in
    content environment "${own.name} ${own.version}" 0 {
      inherit file;
      path = wheel;
    } [ ];
}
