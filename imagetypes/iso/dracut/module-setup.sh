#!/bin/bash
# A module of dracut for the initial RAM disk of a live ISO: it checks the medium if mediacheck=1 is on the kernel's command line, and keeps changes in a
# partition of the stick if rd.live.overlay.persistent is (for the module dmsquash-live; KIWI's kiwi-live does that itself).

check() { return 255; }

depends() { echo base; }

installkernel() { instmods ext4 xfs; }

install() {
    inst_multiple blkid cat dd mkdir mount od printf readlink rmdir sha256sum umount
    inst_multiple -o sfdisk mkfs.ext4 mkfs.xfs
    inst_hook pre-mount 30 "$moddir/check-medium.sh"
    inst_hook pre-udev 25 "$moddir/overlay-rules.sh"
    inst_script "$moddir/create-live-overlay.sh" /sbin/create-live-overlay
    inst_simple "$moddir/live-medium.sh" /lib/live-medium.sh
    dracut_need_initqueue
}
