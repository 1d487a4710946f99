#!/bin/bash
# Runs in the root tree when all packages are installed.
set -eu
test -f /.kconfig && . /.kconfig
test -f /.profile && . /.profile

baseInsertService systemd-networkd
baseInsertService systemd-resolved
echo "$kiwi_iname $kiwi_iversion" > /etc/issue.net
