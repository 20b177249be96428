# Builds a wheel in a root of Debian packages: $root, the build requirements' layer $environment, the source's $archive.
#
# The root is in the store and stays as it is: its folders are bound into a new one, and only /usr/local, /tmp and /project
# can be written.
export new="$PWD/root"
busybox mkdir -p "$new/proc" "$new/dev" "$new/tmp" "$new/project/out" "$new/project/tool" local
busybox gzip -dc "$environment/blob" > environment.tar
busybox tar -xf environment.tar
if [ -d usr/local ]; then
  busybox cp -a usr/local/. local/
fi
busybox cp "$archive" "$new/project/archive"
busybox cp "$program" "$new/project/tool/build_wheel.py"
busybox cp "$configPath" "$new/project/config.json"

busybox unshare -r -m busybox sh -euc '
  for entry in "$root"/*; do
    name="$(busybox basename "$entry")"
    if [ -L "$entry" ]; then
      busybox ln -s "$(busybox readlink "$entry")" "$new/$name"
    elif [ ! -e "$new/$name" ]; then
      busybox mkdir "$new/$name"
      busybox mount -o bind "$entry" "$new/$name"
    fi
  done
  busybox mount -o bind "$PWD/local" "$new/usr/local"
  busybox mount -o rbind /proc "$new/proc"
  busybox mount -o rbind /dev "$new/dev"
  # The seed of hashes counts from the first moment of a Python, so it is set before there is one.
  exec busybox env -i PATH=/usr/local/bin:/usr/bin:/bin:"$PATH" PYTHONHASHSEED=0 \
    busybox chroot "$new" "/usr/bin/python$python" -s -B /project/tool/build_wheel.py /project
'
busybox mkdir "$out"
busybox cp "$new"/project/out/*.whl "$out/"
