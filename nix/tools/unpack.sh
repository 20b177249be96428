# Unpacks the .deb files named in $debs into $out, with /bin, /lib and the like merged into /usr.
busybox mkdir -p "$out/usr"
for name in bin sbin lib lib64; do
  busybox mkdir -p "$out/usr/$name"
  busybox ln -s "usr/$name" "$out/$name"
done
for deb in $debs; do
  busybox mkdir part
  busybox dpkg-deb -x "$deb" part
  for name in bin sbin lib lib64; do
    if [ -d "part/$name" ] && [ ! -L "part/$name" ]; then
      busybox mkdir -p "part/usr/$name"
      busybox cp -a "part/$name/." "part/usr/$name/"
    fi
    busybox rm -rf "part/$name"
  done
  busybox cp -a part/. "$out/"
  busybox chmod -R u+rwX part
  busybox rm -rf part
done
