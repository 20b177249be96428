# Runs $program, a program of ours, by the Python of an image in that image's root $tree; it gets the paths of its
# configuration and of the file or folder that it must make. $enter, a command, makes that root and runs what is in it
# apart. $beside: names and files that lie beside it. $model, where it is set, is copied to /app first. $bound: more
# files of /app, in lines: name, file, mode.
if ! busybox unshare -r -m busybox true; then
  echo "tungsten: this machine does not allow user namespaces, which build steps need" >&2
  echo "allow them: sysctl -w kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0" \
    "(Ubuntu), or user.max_user_namespaces=15000" >&2
  echo '@tungsten {"kind": "namespaces-refused"}' >&2
  exit 1
fi
work="$PWD/work"
busybox mkdir -p "$work/app" "$work/home" "$work/tmp/step" "$work/etc"
busybox cp -R "$tree/app/." "$work/app/"
busybox cp -R "$tree/home/nonroot/." "$work/home/"
busybox chmod -R u+w "$work"
if [ -n "${model:-}" ]; then
  # What a base image or a COPY put there may be a link, which would be followed.
  (cd "$model" && busybox find .) | while IFS= read -r name; do
    if [ "$name" != . ] && [ -L "$work/app/$name" ]; then busybox rm "$work/app/$name"; fi
  done
  busybox cp -R "$model/." "$work/app/"
fi
busybox chmod -R u+w "$work"

# $over: folders whose /app and HOME lie over that. Files of more than a megabyte are bound to their places, once there
# is a namespace: copies of weights cost minutes.
lay_over() {
  [ -d "$1" ] || return 0
  cd "$1"
  busybox find . -type d | while IFS= read -r folder; do busybox mkdir -p "$work/$2/$folder"; done
  # What cpio says is how many blocks there were.
  busybox find . ! -type d '(' ! -type f -o ! -size +2048 ')' -print0 |
    busybox cpio -o -H newc -0 2> /dev/null | ( cd "$work/$2" && busybox cpio -i -d -u 2> /dev/null )
  busybox find . -type f -size +2048 | while IFS= read -r file; do
    busybox rm -f "$work/$2/$file"
    : > "$work/$2/$file"
    printf '%s\n%s\n' "$1/$file" "/$3/$file" >> "$work.bound"
  done
  cd - > /dev/null
}
printf '%s\n' "$work/app" /app "$work/home" /home/nonroot "$work/tmp" /tmp > "$work.writable"
printf '%s\n' "$work/etc" /etc > "$work.bound"
for part in ${over:-}; do
  lay_over "$part/app" app app
  lay_over "$part/home/nonroot" home home/nonroot
done
printf '%s\n' "${bound:-}" | while IFS= read -r name && IFS= read -r file && IFS= read -r mode; do
  busybox mkdir -p "$(busybox dirname "$work/app/$name")"
  if [ "$mode" = 755 ]; then
    # Files of the store by themselves can't be run.
    busybox cp "$file" "$work/app/$name"
    busybox chmod 755 "$work/app/$name"
  else
    : > "$work/app/$name"
    printf '%s\n%s\n' "$file" "/app/$name" >> "$work.bound"
  fi
done
busybox chmod -R u+w "$work"
# A time that a program may look at must not be that of this very build.
busybox find "$work/app" "$work/home" -exec busybox touch -h -d @1 {} +
busybox cp "$program" "$work/tmp/step/program.py"
busybox cp "$configPath" "$work/tmp/step/config.json"
set -- $beside
while [ $# -gt 0 ]; do
  busybox mkdir -p "$(busybox dirname "$work/tmp/step/$1")"
  busybox cp "$2" "$work/tmp/step/$1"
  shift 2
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

# The seed of hashes counts from the first moment of a Python, so it is set before there is one.
PYTHONHASHSEED=0 $enter "$tree" "$work.writable" "$work.bound" \
  "$python" -I -B /tmp/step/program.py /tmp/step/config.json /tmp/step/out
# What the user's code may have put there in its place would be followed.
if [ -L "$work/tmp/step/out" ]; then
  echo "error: the result is a link" >&2
  exit 1
fi
busybox cp -R "$work/tmp/step/out" "$out"
