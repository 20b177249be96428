# Runs its arguments as root of user, mount and process namespaces of their own: root may then bind and change root.
if ! busybox unshare -r -m busybox true; then
  echo "tungsten: this machine does not allow user namespaces, which build steps need" >&2
  exit 1
fi
exec busybox unshare -r -m -p -f "$@"
