# The plan of layers: what shares a layer, what stands alone, and in which order.
{ nix }:
let
  mib = 1024 * 1024;
  content = layer: label: size: {
    inherit layer label size;
    inputs = [ label ];
  };
  wheel =
    label: size:
    content "wheels" label size
    // {
      byteCode = true;
      alone = {
        inputs = [ "${label} spliced" ];
        byteCodeInputs = [ "${label} byte-code" ];
      };
    };
  small = label: content label label 0;
  changes = label: small label // { inputs = [ { kind = "changes"; } ]; };
  planned =
    maxLayers: mostLayers: contents:
    map (layer: layer.label) (nix.layers { inherit contents maxLayers mostLayers; });
  plan = maxLayers: contents: map (layer: layer.inputs) (nix.layers { inherit contents maxLayers; });
in
{
  "contents of one layer's name stand together, in the order of first appearance" = {
    expr = plan 100 [
      (content "base" "libc6" 1)
      (content "python" "python3.11" 1)
      (content "base" "tini" 1)
    ];
    expected = [
      [ "libc6" "tini" ]
      [ "python3.11" ]
    ];
  };
  "a big wheel stands alone, followed by its byte-code" = {
    expr = plan 100 [
      (wheel "small" mib)
      (wheel "torch" (800 * mib))
      (wheel "tiny" 1)
    ];
    expected = [
      [ "torch spliced" ]
      [ "torch byte-code" ]
      [ "small" "tiny" ]
    ];
  };
  "a big deb does not stand alone" = {
    expr = plan 100 [ (content "system" "texlive" (800 * mib)) ];
    expected = [ [ "texlive" ] ];
  };
  "a layer is split before it passes 1 GiB of packed bytes" = {
    expr = plan 100 [
      (content "system" "a" (600 * mib))
      (content "system" "b" (600 * mib))
      (content "system" "c" (100 * mib))
    ];
    expected = [
      [ "a" ]
      [ "b" "c" ]
    ];
  };
  "with too many big wheels, the smaller ones stand together" = {
    expr = builtins.length (plan 5 (builtins.genList (i: wheel "w${toString i}" (40 * mib)) 10));
    expected = 1;
  };
  "byte-code is compiled where a content asks for it" = {
    expr = map (layer: layer.byteCode) (nix.layers {
      contents = [
        (content "settings" "files" 0)
        (wheel "small" 1)
      ];
      maxLayers = 100;
    });
    expected = [ false true ];
  };
  "what has no byte-code is one layer where it stands alone" = {
    expr = plan 100 [
      (content "files" "weights" (800 * mib) // { alone.inputs = [ "weights stored" ]; })
    ];
    expected = [ [ "weights stored" ] ];
  };
  "what stands together under one label says it once" = {
    expr = map (layer: layer.label) (nix.layers {
      contents = map (content "files" "org/name") [ 1 2 3 ] ++ [ (content "files" "w.bin" 1) ];
      maxLayers = 100;
    });
    expected = [ "org/name, w.bin" ];
  };
  "what cannot fit is refused" = {
    expr = (builtins.tryEval (plan 1 (map changes [ "a" "b" ]))).success;
    expected = false;
  };
  "where there may be more layers than there shall be, what changes apart stays apart" = {
    expr = planned 1 3 (map small [ "a" "b" "c" ]);
    expected = [ "a" "b" "c" ];
  };
  "where even so there are too many, neighbours stand together, the lowest first" = {
    expr = [
      (planned 1 3 (map small [ "a" "b" "c" "d" ]))
      (planned 1 1 (map small [ "a" "b" "c" "d" ]))
    ];
    expected = [
      [ "a; b" "c" "d" ]
      [ "a; b; c; d" ]
    ];
  };
  "but for changes, and what follows from all below" = {
    expr = planned 1 5 [
      (small "a")
      (changes "1")
      (changes "2")
      (small "b" // { needsLower = true; })
      (small "c")
      (wheel "d" 0)
      (small "e")
    ];
    expected = [ "a" "1" "2" "b" "c; d; e" ];
  };
  "what stands together has the byte-code of all" = {
    expr = map (layer: layer.byteCode) (nix.layers {
      contents = [ (small "a") (wheel "b" 0) ];
      maxLayers = 1;
    });
    expected = [ true ];
  };
}
