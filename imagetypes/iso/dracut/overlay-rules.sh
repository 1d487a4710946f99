#!/bin/sh
# Lets create-live-overlay run when the medium is there, before dmsquash-live-root does: jobs run in the order of their names.

# shellcheck disable=SC2154 # root is dracut's
case "$root" in
    live:/dev/*)
        printf 'SYMLINK=="%s", RUN+="/sbin/initqueue --settled --onetime --unique /sbin/create-live-overlay %s"\n' \
            "${root#live:/dev/}" "${root#live:}" > /etc/udev/rules.d/95-live-overlay.rules
        ;;
esac
