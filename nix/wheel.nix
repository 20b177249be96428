# Wheels as contents of an image, and wheels made from our own sources.
{ fetch, runTool }:
let
  content =
    environment: label: size: file: path:
    let
      place = {
        inherit file path;
        inherit (environment) prefix interpreter;
        site-packages = environment.sitePackages;
        # As with pip, the later of two wheels that ship one file (such as `tests/__init__.py`) wins.
        override = true;
      };
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
  # environment: { layer, prefix, sitePackages, interpreter }; wheel: a lock's entry.
  locked =
    environment: wheel:
    content environment "${wheel.project} ${wheel.version}" wheel.size wheel.file (fetch wheel);

  # source: a lock's entry; path: the wheel that was built from it.
  built =
    environment: source: path:
    content environment "${source.project} ${source.version}" source.wheel-size source.wheel path;

  # own: an entry of wheels.json; source: the folder of its modules.
  own =
    environment: own: source:
    let
      inherit (import ./own-wheel.nix own source) file config;
      wheel = runTool {
        inherit config;
        name = file;
        tool = "pack_wheel.py";
      };
    in
    content environment "${own.name} ${own.version}" 0 file wheel;
}
