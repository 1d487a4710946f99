#!/bin/sh
# Finds the partition labelled cow on the medium that the system starts from, or makes it in the free space behind the medium's content, and tells
# dmsquash-live to keep changes there. Where that is not possible, as on a CD, changes are kept in memory.

type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh
. /lib/live-medium.sh

[ -e /sbin/dmsquash-live-root ] || exit 0
getargbool 0 rd.live.overlay.persistent || exit 0
[ -z "$(getarg rd.live.overlay)" ] || exit 0

disk=$(medium_of "$1")
sys=/sys/class/block/${disk##*/}
read -r readonly < "$sys/ro"
case "$disk" in
    /dev/sr*) readonly=1 ;;
esac
if [ "$readonly" != 0 ]; then
    info "Changes are kept in memory: nothing can be written to the medium"
    exit 0
fi

give_up() {
    warn "Changes are kept in memory: $1"
    exit 0
}

find_cow() {
    for entry in "$sys/${disk##*/}"*; do
        [ -e "$entry/partition" ] || continue
        if [ "$(blkid -p -s LABEL -o value "/dev/${entry##*/}")" = cow ]; then
            echo "/dev/${entry##*/}"
            return 0
        fi
    done
    return 1
}

# Sectors of 512 bytes, as in /sys.
find_start() {
    end=0
    for entry in "$sys/${disk##*/}"*; do
        [ -e "$entry/partition" ] || continue
        read -r start < "$entry/start"
        read -r size < "$entry/size"
        if [ $((start + size)) -gt "$end" ]; then
            end=$((start + size))
        fi
    done
    echo $(((end + 2047) / 2048 * 2048))
}

partition_at() {
    for entry in "$sys/${disk##*/}"*; do
        [ -e "$entry/partition" ] || continue
        read -r start < "$entry/start"
        if [ "$start" = "$1" ]; then
            echo "/dev/${entry##*/}"
        fi
    done
}

make_cow() {
    start=$(find_start)
    read -r total < "$sys/size"
    least=64
    filesystem=$(getarg rd.live.overlay.cowfs)
    [ "$filesystem" != xfs ] || least=320 # mkfs.xfs makes nothing under 300 MiB
    [ $((total - start)) -ge $((least * 2048)) ] || give_up "the medium has less than $least MiB of free space"
    echo "start=$start, type=83" | sfdisk --quiet --append --no-reread --force "$disk" > /dev/null || give_up "no partition could be made on $disk"
    udevadm settle
    cow=$(partition_at "$start")
    [ -n "$cow" ] || give_up "the new partition on $disk was not found"
    case "$filesystem" in
        xfs) mkfs.xfs -q -f -L cow "$cow" ;;
        *) mkfs.ext4 -q -F -L cow "$cow" ;;
    esac || give_up "no file system could be made on $cow"
}

cow=$(find_cow) || make_cow
mkdir -p /run/live-overlay
mount "$cow" /run/live-overlay || give_up "$cow can't be mounted"
mkdir -p /run/live-overlay/rw /run/live-overlay/ovlwork
umount /run/live-overlay
rmdir /run/live-overlay
udevadm settle
mkdir -p /etc/cmdline.d
echo "rd.live.overlay=$cow:/rw" > /etc/cmdline.d/95-live-overlay.conf
exit 0
