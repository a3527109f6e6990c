#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the guest, continued from stub.sh once the project is mounted: sets the guest up, runs
# /share/run.sh with its output in /share/output, and powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mkdir -p /run/lock /run/lvm
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done

if [ -n "$GUEST_FOLDERS" ]; then
    export GUEST_DISKS=/dev/ubd
else
    # QEMU's kernel, Linux 6.1, has no user attributes (xattr(7)) on a tmpfs, which /tmp is.
    export GUEST_DISKS=/dev/vd TMPDIR=/var/tmp
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
    [ -z "$GUEST_FOLDERS" ] || console=/dev/tty0
    setsid -c /bin/bash -i <$console >$console 2>&1
else
    sh /share/run.sh >/share/output 2>&1
    echo $? >/share/exit-code
fi
sync
echo o >/proc/sysrq-trigger
sleep 60
