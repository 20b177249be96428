# Runs $program, a program of ours, by the Python of an image in that image's root $tree; it gets the paths of its
# configuration and of the file or folder that it must make. $beside: names and files that lie beside it. $model, where
# it is set, is copied to /app first.
if ! busybox unshare -r -m busybox true; then
  echo "tungsten: this machine forbids user namespaces, which build steps need" >&2
  echo "allow them: sysctl -w kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0" \
    "(Ubuntu), or user.max_user_namespaces=15000" >&2
  exit 1
fi
export new="$PWD/root" work="$PWD/work"
busybox mkdir -p "$work/app" "$work/home" "$work/tmp/step"
busybox cp -R "$tree/app/." "$work/app/"
busybox cp -R "$tree/home/nonroot/." "$work/home/"
if [ -n "${model:-}" ]; then
  busybox cp -R "$model/." "$work/app/"
fi
busybox chmod -R u+w "$work"
# A time that a program may look at must not be that of this very build.
busybox find "$work/app" "$work/home" -exec busybox touch -h -d @1 {} +
busybox cp "$program" "$work/tmp/step/program.py"
busybox cp "$configPath" "$work/tmp/step/config.json"
set -- $beside
while [ $# -gt 0 ]; do
  busybox cp "$2" "$work/tmp/step/$1"
  shift 2
done

# The seed of hashes counts from the first moment of a Python, so it is set before there is one.
busybox unshare -r -m busybox sh -euc '
  . "$enter"
  PYTHONHASHSEED=0 exec busybox chroot "$new" "$python" -I -B /tmp/step/program.py /tmp/step/config.json /tmp/step/out
'
busybox cp -R "$work/tmp/step/out" "$out"
