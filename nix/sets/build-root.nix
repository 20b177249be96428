# Where build steps run that need the model's packages: the image without the server, downloads and the model.
#
# locked: the lock's, for the platform. underneath: what lies below the packages. commands: what was run of
# dockerfile_commands. ownSources, ownWheels: our modules, and what is said of their wheels. wheel, source: make
# contents of the lock's entries.
{
  locked,
  underneath,
  commands,
  ownSources,
  ownWheels,
  wheel,
  source,
  dockerTools,
}:
let
  modelEnvironment = underneath.modelEnvironment // {
    layer = "wheels";
  };

  pythonContents =
    underneath.replacedContents
    ++ wheel.locked modelEnvironment (entry: (source entry).wheel) (locked.wheels ++ locked.sources or [ ])
    ++ [ (wheel.own (modelEnvironment // { layer = "sdk"; }) ownWheels.sdk ownSources.sdk) ];
in
{
  inherit pythonContents;
  tree = dockerTools.unpackedRoot (underneath.systemContents ++ commands.contents ++ pythonContents);
  python = underneath.modelEnvironment.interpreter;
}
