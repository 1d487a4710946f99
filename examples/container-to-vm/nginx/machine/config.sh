#!/bin/bash
# Runs in the root tree when all packages are installed. A machine does not run
# a container's entrypoint: its init system starts services.
set -eu
test -f /.kconfig && . /.kconfig

baseInsertService nginx
baseInsertService systemd-networkd
