{
  description = "Tungstenkit on Nix: a decorated Python class becomes a reproducible container image";

  # No inputs: everything is pinned by the models' own locks.
  outputs =
    _inputs:
    let
      lib = import ./nix;

      # A checkout has the same layout as an export, but for the model and what says where bytes come from:
      # `tungsten fetch examples/blur` brings those into the store first.
      example = name: rec {
        spec = ./examples + "/${name}/spec.json";
        lock = ./examples + "/${name}/tungsten.lock";
        sources = ./examples + "/${name}/sources.json";
        model = builtins.path {
          name = "model";
          path = ./examples + "/${name}";
          # What `tungsten` leaves out of such a folder: its own lock, and what is hidden.
          filter =
            path: _type:
            baseNameOf path != "tungsten.lock" && builtins.substring 0 1 (baseNameOf path) != ".";
        };
        ownSources = {
          sdk = ./tungstenkit;
          server = ./server/tungsten_server;
        };
        # As an export has them: it has a name, and this image would be one of it.
        parts = {
          inherit model;
          "files.json" = builtins.toFile "files.json" "[]\n";
          "flake.nix" = ./nix/flake/exported-flake.nix;
          "spec.json" = spec;
          "tungsten.lock" = lock;
          nix = filesOf ./nix (file: builtins.match ".*[.](nix|py|sh|json)" file != null);
          server = filesOf ./server (
            file: builtins.match "tungsten_server/.*" file != null && builtins.match ".*[.]pyc" file == null
          );
          tungstenkit = filesOf ./tungstenkit (
            file:
            builtins.elem file lib.ownWheels.sdk.modules
            || builtins.elem (builtins.head (builtins.split "/" file)) lib.ownWheels.sdk.modules
              && builtins.match ".*[.]py" file != null
          );
        };
      };

      # Of a folder those files that are wanted, by their paths in it; an empty folder is none of an export.
      filesOf =
        folder: isWanted:
        builtins.path {
          name = "exported";
          path = folder;
          filter =
            path: type:
            type == "directory"
            || isWanted (
              builtins.substring (builtins.stringLength (toString folder) + 1) (-1) (toString path)
            );
        };

      blur = lib.outputs (example "blur");

      # tungsten itself, for machines with nothing but an engine; `tungsten fetch builder` comes first.
      builder = import ./builder/image.nix {
        nix = lib;
        checkout = ./.;
      };

      # The same model for the other package set, as an export for it has it. What that takes from elsewhere is no input
      # of this flake: it is fetched when this image is asked for, and by nothing else.
      ofNixpkgs = rec {
        folder = ./tests/golden/nixpkgs/blur;
        pins = (lib.documents.lockOf "nixpkgs" (folder + "/tungsten.lock")).flake-inputs;
        inputs = builtins.mapAttrs (
          _name: pin:
          builtins.fetchTarball {
            url = "https://github.com/${pin.owner}/${pin.repo}/archive/${pin.rev}.tar.gz";
            sha256 = pin.nar-hash;
          }
        ) pins;
        outputs = lib.nixpkgsOutputs {
          inherit folder inputs;
          inherit (example "blur") model ownSources;
        };
      };
    in
    {
      inherit lib;
      inherit (blur) apps devShells;

      packages = builtins.mapAttrs (
        system: packages:
        packages
        // builder.packages.${system} or { }
        // { model-image-nixpkgs = ofNixpkgs.outputs.packages.${system}.model-image; }
      ) blur.packages;

      # The image, and the rules of nix/ that need no build.
      checks = builtins.mapAttrs (
        _system: packages:
        let
          rules = import ./tests/nix { nix = lib; };
          broken = builtins.filter (rule: rules.${rule}.expr != rules.${rule}.expected) (builtins.attrNames rules);
        in
        if broken == [ ] then
          { inherit (packages) model-image; }
        else
          throw "broken rules of nix/: ${builtins.concatStringsSep "; " broken}"
      ) blur.packages;

      templates.default = {
        path = ./tungstenkit/templates/plain;
        description = "A model to start from; `tungsten init` has more";
      };
    };
}
