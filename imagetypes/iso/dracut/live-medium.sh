#!/bin/sh
# medium_of prints the disk that a device of the medium, such as /dev/disk/by-label/CDROM, is or is a partition of.

medium_of() {
    _device=$(readlink -f "$1")
    _sys=$(readlink -f "/sys/class/block/${_device##*/}")
    if [ -e "$_sys/partition" ]; then
        _sys=${_sys%/*}
    fi
    echo "/dev/${_sys##*/}"
}
