# Runs its arguments as root of user, mount and process namespaces of their own: root may then bind and change root.
if ! busybox unshare -r -m -p -f busybox true; then
  echo "tungsten: this machine does not allow user namespaces, which build steps need" >&2
  echo "allow them: sysctl -w kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0" \
    "(Ubuntu), or user.max_user_namespaces=15000" >&2
  exit 1
fi
exec busybox unshare -r -m -p -f "$@"
