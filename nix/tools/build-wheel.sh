# Builds a wheel in a root of Debian packages: $root, the build requirements' layer $environment, the source's $archive.
# $enter, a command, makes that root and runs what is in it apart: of it only /usr/local, /tmp and /project can be written.
busybox mkdir -p tmp project/out project/tool local
busybox gzip -dc "$environment/blob" > environment.tar
busybox tar -xf environment.tar
if [ -d usr/local ]; then
  busybox cp -a usr/local/. local/
fi
busybox cp "$archive" project/archive
busybox cp "$program" project/tool/build_wheel.py
busybox cp "$configPath" project/config.json
printf '%s\n' "$PWD/local" /usr/local "$PWD/tmp" /tmp "$PWD/project" /project > writable
: > bound

# The seed of hashes counts from the first moment of a Python, so it is set before there is one.
busybox env -i PATH=/usr/local/bin:/usr/bin:/bin PYTHONHASHSEED=0 $enter "$root" writable bound \
  "/usr/bin/python$python" -s -B /project/tool/build_wheel.py /project
busybox mkdir "$out"
for wheel in project/out/*.whl; do
  # What the source's code may have put there in its place would be followed.
  if [ ! -L "$wheel" ]; then busybox cp "$wheel" "$out/"; fi
done
