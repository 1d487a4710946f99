#!/bin/sh
# Compares the medium with the SHA-256 in its application use area (ECMA-119, section 8.4.32), in the form of openSUSE's checkmedia: the first 512 bytes count
# as zeros, since a stick's partition table may change, and the area itself as blanks.

type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh
. /lib/live-medium.sh

check_medium() {
    medium=$(medium_of "${root#live:}")
    area=33651
    want=$(dd if="$medium" bs=512 iflag=skip_bytes,count_bytes skip=$area count=512 2> /dev/null)
    want=${want##*sha256sum=}
    want=${want%%[!0-9a-f]*}
    blocks=$(od -A n -t u4 -j 32848 -N 4 "$medium")
    size=$((blocks * 2048))
    echo "Checking the medium $medium, $((size / 1048576)) MiB ..." > /dev/console
    got=$({
        dd if=/dev/zero bs=512 count=1
        dd if="$medium" bs=64k iflag=skip_bytes,count_bytes skip=512 count=$((area - 512))
        printf '%512s' ''
        dd if="$medium" bs=64k iflag=skip_bytes,count_bytes skip=$((area + 512)) count=$((size - area - 512))
    } 2> /dev/null | sha256sum)
    if [ -z "$want" ] || [ "${got%% *}" != "$want" ]; then
        echo "The medium is DAMAGED: its SHA-256 is ${got%% *} and should be ${want:-known}." > /dev/console
        die "The medium is damaged"
    fi
    echo "The medium is good." > /dev/console
}

# KIWI's module checks by itself where it finds its program.
if getargbool 0 mediacheck && ! { [ -e /lib/kiwi-live-lib.sh ] && command -v checkmedia > /dev/null; }; then
    check_medium
fi
