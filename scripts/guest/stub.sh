#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the guest, as its root has it: makes the machine's folders seen, and goes on with the project's
# init.sh. They come by hostfs in User-mode Linux, which is told on its command line where they are, else by 9p.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mkdir -p /share /project /packages
GUEST_FOLDERS=
for word in $(cat /proc/cmdline); do
    case $word in lamella.folders=*) GUEST_FOLDERS=${word#lamella.folders=} ;; esac
done
export GUEST_FOLDERS
hostfs() {
    # Newer versions of mount name the option, and older ones must not.
    mount -t hostfs none "$2" -o "hostfs=$1" 2>/dev/null && [ -n "$(ls -A "$2")" ] && return
    umount "$2" 2>/dev/null
    mount -t hostfs none "$2" -o "$1"
}
for name in share project packages; do
    if [ -n "$GUEST_FOLDERS" ]; then
        hostfs "$GUEST_FOLDERS/$name" "/$name"
    else
        mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 "$name" "/$name"
    fi
    [ $name = share ] || mount -o remount,bind,ro "/$name"
done
if [ -n "$GUEST_FOLDERS" ]; then
    mkdir -p "/lib/modules/$(uname -r)"
    hostfs "$GUEST_FOLDERS/modules" "/lib/modules/$(uname -r)"
fi
exec sh /project/scripts/guest/init.sh
