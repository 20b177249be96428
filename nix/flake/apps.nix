# Programs that bring an image somewhere, without a copy of its layers in the store.
{ busybox, programs, python, system }:
let
  # In a folder: apps are asked for a path inside a store path, and shebangs take no other.
  script =
    name: text:
    derivation {
      inherit name system text;
      builder = "${busybox}/bin/busybox";
      args = [
        "sh"
        "-euc"
        ''
          busybox mkdir "$out"
          busybox cp "$textPath" "$out/run"
          busybox chmod +x "$out/run"
        ''
      ];
      passAsFile = [ "text" ];
    };
in
{
  # The bytes of `model-image`, on standard output.
  stream =
    layout:
    "${script "stream-image" ''
      #!${busybox}/bin/busybox sh
      if [ -t 1 ]; then
        echo "error: an image's bytes are not for a terminal" >&2
        echo "  hint: nix run .#stream-image | podman load" >&2
        exit 2
      fi
      exec ${toString python.command} -I -S -B ${programs."archive.py".path} ${layout} -
    ''}/run";

  # The layout, layer by layer, under the digest that it has here.
  push =
    layout:
    "${script "push-image" ''
      #!${busybox}/bin/busybox sh
      set -eu
      case "''${1:-}" in
        "" | -*)
          echo "usage: nix run .#push-image -- REFERENCE [what skopeo copy takes]" >&2
          exit 2 ;;
      esac
      if ! command -v skopeo > /dev/null; then
        echo "error: there is no skopeo on PATH, which pushes images" >&2
        echo "  hint: on Debian: apt-get install skopeo" >&2
        exit 1
      fi
      reference="$1"
      shift
      skopeo copy --preserve-digests "$@" oci:${layout} "docker://$reference" >&2
      # The only manifest there is.
      digest="$(${busybox}/bin/busybox grep -o 'sha256:[0-9a-f]*' ${layout}/index.json)"
      echo "$reference@$digest"
    ''}/run";
}
