# SPDX-License-Identifier: Apache-2.0
"""Stores made by Docker 20.10 on a real kernel, with the output of the real tools on each.

``python -m scripts.docker_stores`` makes all of them in the guest (:mod:`scripts.guest`); a test gets one
with ``docker_store(mode, fs, state)``. They are kept in the guest's cache by the hash of this folder.

A store is a folder:

``docker.tar.zst``
    a sparse tar of /var/lib/docker, with extended attributes; of loop-lvm it includes the pool's files
``pv.img.zst``
    direct-lvm: the disk with the volume group ``docker``
``cmd.txt``, ``docker-info.txt``, ``docker-state.txt``, ``images.json``,
``inspect.web1.json``, ``export.web1.tv``
    dockerd's command line, and its answers just before it was stopped
``dmsetup.running.txt``, ``dmsetup.stopped.txt``
    ``dmsetup table`` and ``status`` while dockerd ran and after it
``thin_check.txt``, ``thin_dump.xml``, ``thin_ls.txt``
    output of thin-provisioning-tools on the pool's metadata; that of thin_check ends with its exit code
``lvs.json``, ``segs.json``, ``vgs.json``, ``pvs.json``, ``vgcfg.txt``
    direct-lvm: LVM2's reports
``truth/pool.txt``
    ``dmsetup status`` of a copy of the pool, just after it was activated with error_if_no_space
``truth/ID.sha256``, ``truth/ID.blkid``, ``truth/ID.manifest.jsonl``
    for each thin device: the digest of its content (:func:`scripts.docker_stores.digests.digest`), read
    through the kernel before the first mount; its size, file system and Docker's name for it; and each
    file's attributes and digest when the kernel has mounted it, which replays the journal
"""
