#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the guest: sets it up, runs /share/run.sh with its output in /share/output, and powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /share /project /packages
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mkdir -p /run/lock /run/lvm
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done

# The machine's folders: by hostfs in User-mode Linux, which is told where they are, else by 9p.
folders=
for word in $(cat /proc/cmdline); do
    case $word in lamella.folders=*) folders=${word#lamella.folders=} ;; esac
done
folder() {
    if [ -n "$folders" ]; then
        mount -t hostfs none "/$1" -o "$folders/$1"
    else
        mount -t 9p -o "trans=virtio,version=9p2000.L,msize=524288" "$1" "/$1"
    fi
    [ "$2" = rw ] || mount -o remount,bind,ro "/$1"
}
folder share rw
folder project ro
folder packages ro
if [ -n "$folders" ]; then
    mkdir -p "/lib/modules/$(uname -r)"
    mount -t hostfs none "/lib/modules/$(uname -r)" -o "$folders/modules"
    export GUEST_DISKS=/dev/ubd
else
    export GUEST_DISKS=/dev/vd
fi

ip link set lo up
hostname guest
/lib/systemd/systemd-udevd --daemon 2>/dev/null
for module in dm_mod dm_thin_pool dm_flakey overlay loop xfs; do
    modprobe "$module" || echo "the guest's kernel has no module $module" >&2
done
udevadm trigger --action=add
udevadm settle

export PYTHONPATH=/packages:/project/src:/project
cd /share || exit
if [ -e /share/interactive ]; then
    console=/dev/ttyS0
    [ -z "$folders" ] || console=/dev/tty0
    setsid -c /bin/bash -i <$console >$console 2>&1
else
    sh /share/run.sh >/share/output 2>&1
    echo $? >/share/exit-code
fi
sync
echo o >/proc/sysrq-trigger
sleep 60
