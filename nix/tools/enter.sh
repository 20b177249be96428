# Makes the image's root $tree, a folder of the store, the root of what runs next: sourced by a shell that is alone in
# its own user and mount namespace (`busybox unshare -r -m`).
#
# $new: an empty folder for the new root. $work: a folder whose subfolders app, home and tmp become /app, /home/nonroot
# and /tmp, writable; nothing else of the root can be written. $network: not empty where the network is there.
busybox mkdir -p "$new" "$work/app" "$work/home" "$work/tmp" "$work/etc"
busybox mount -o bind "$new" "$new"

# A store mounted with other flags than these may refuse to be mounted without them.
read_only() {
  busybox mount -o remount,bind,ro "$1" 2> /dev/null ||
    busybox mount -o remount,bind,ro,nosuid,nodev "$1" ||
    { echo "tungsten: $1 can't be made read-only here" >&2; exit 1; }
}

for entry in "$tree"/*; do
  name="$(busybox basename "$entry")"
  case "$name" in proc | dev | sys | tmp | etc) continue ;; esac
  if [ -L "$entry" ]; then
    busybox ln -s "$(busybox readlink "$entry")" "$new/$name"
  elif [ -d "$entry" ]; then
    busybox mkdir "$new/$name"
    busybox mount -o bind "$entry" "$new/$name"
    read_only "$new/$name"
  fi
done

# A copy, because what the machine says of its network has its place there.
busybox cp -R "$tree/etc/." "$work/etc/"
busybox chmod -R u+w "$work/etc"
if [ -n "${network:-}" ]; then
  for name in resolv.conf hosts services nsswitch.conf; do
    if [ -e "/etc/$name" ]; then
      busybox rm -f "$work/etc/$name"
      busybox cat "/etc/$name" > "$work/etc/$name"
    fi
  done
fi
busybox mkdir -p "$new/etc" "$new/proc" "$new/dev" "$new/tmp"
busybox mount -o bind "$work/etc" "$new/etc"
read_only "$new/etc"
busybox mount -o bind "$work/app" "$new/app"
busybox mount -o bind "$work/home" "$new/home/nonroot"
busybox mount -o bind "$work/tmp" "$new/tmp"
busybox mount -o rbind /proc "$new/proc"
busybox mount -o rbind /dev "$new/dev"
# Nor does anything new appear beside them.
read_only "$new"
