#!/bin/bash
# Runs in the root tree when all packages are installed.
set -eu
test -f /.kconfig && . /.kconfig

baseInsertService systemd-networkd
