# Makes sure that the programs which `make` needs are here: installs them on Debian as root, says what to install elsewhere.
# need.sh [PYTHON [check | test]]; with `check`, only what .venv and `make check` need; with `test`, also what only tests
# need: where that can't be installed, it is named, and those tests are left out. An image needs no more: tungsten brings
# Nix where there is none, and does without an engine.
set -eu
python=${1:-python3}
packages=
need() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }
installs() { [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null 2>&1; }
need unshare util-linux
"$python" -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
required=$packages
if [ "${2-}" = test ]; then
  # Elsewhere tungsten's own is taken.
  if installs; then
    need nix nix-bin
  fi
  need podman podman
  need runc runc
  need chromium chromium
  need direnv direnv
  need chromedriver chromium-driver
  need qemu-aarch64-static qemu-user-static
  need skopeo skopeo
  need zstd zstd
fi
# Unpacked, not installed: these packages would start a service, or nobody needs them installed. Where that fails, their
# tests are skipped.
unpack() {
  place=.venv/$1
  if [ -d "$place" ] || ! command -v apt-get >/dev/null 2>&1; then return; fi
  rm -rf "$place.part" && mkdir -p "$place.part"
  if (
    cd "$place.part"
    apt-get download -qq "$1" || { apt-get update -qq && apt-get download -qq "$1"; }
    dpkg-deb -x "$1"_*.deb . && rm "$1"_*.deb
  ) >/dev/null 2>&1; then mv "$place.part" "$place"; else rm -rf "$place.part"; fi
}
if [ "${2-}" = test ]; then
  unpack prometheus
  unpack docker-registry
  unpack busybox-static
  unpack libfaketime
fi
# The users that Nix builds as: what runs in a build must not be root. As Debian's nix-setup-systemd makes them, which
# would start a service, too.
build_users() {
  if [ "$(id -u)" != 0 ] || ! command -v useradd >/dev/null 2>&1; then return; fi
  case "$(getent group nixbld)" in "" | *:) ;; *) return ;; esac
  # A namespace with a single user has no others to give.
  [ "$(awk '{ ids += $3 } END { print (ids > 1) }' /proc/self/uid_map)" = 1 ] || return 0
  echo "making the users nixbld1 to nixbld10, which Nix builds as"
  groupadd --system --force nixbld && for n in 1 2 3 4 5 6 7 8 9 10; do id -u nixbld$n >/dev/null 2>&1 || useradd --system --no-create-home --home-dir /var/empty --shell /usr/sbin/nologin --no-user-group --gid nixbld --groups nixbld nixbld$n; done
}
[ "${2-}" = check ] || build_users
[ -z "$packages" ] && exit 0

if [ -z "$required" ] && ! installs; then
  echo "not here, so the tests that need them are left out; Debian's packages of them:$packages" >&2
  exit 0
fi
if [ ! -f /etc/debian_version ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "error: these programs are missing; Debian's packages of them are called:$packages" >&2
  echo "  hint: install them with your system's package manager (for Nix see the Nix manual), then run make again" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "error: these Debian packages are missing:$packages" >&2
  echo "  hint: run as root: apt-get install$packages" >&2
  exit 1
fi
echo "installing$packages"
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
