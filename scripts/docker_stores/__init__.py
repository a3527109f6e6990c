# SPDX-License-Identifier: Apache-2.0
"""Whole stores made by the real Docker 20.10 on a real kernel, with what the real tools say of them.

``python -m scripts.docker_stores`` makes all of them in the guest (:mod:`scripts.guest`); a test asks for one
by ``docker_store(mode, fs, state)``. They are kept in the guest's cache, by the text of this folder.

A store is a folder:

``docker.tar.zst``
    a sparse tar, with attributes, of the whole /var/lib/docker; of loop-lvm it has the pool too
``pv.img.zst``
    direct-lvm: the disk with the volume group ``docker``
``cmd.txt``, ``docker-info.txt``, ``docker-state.txt``, ``images.json``,
``inspect.web1.json``, ``export.web1.tv``
    how dockerd was started, and what it said last
``dmsetup.running.txt``, ``dmsetup.stopped.txt``
    ``dmsetup table`` and ``status`` while dockerd ran and after it
``thin_check.txt``, ``thin_dump.xml``, ``thin_ls.txt``
    what the real tools say of the pool's metadata; of thin_check the exit code stands last
``lvs.json``, ``segs.json``, ``vgs.json``, ``pvs.json``, ``vgcfg.txt``
    direct-lvm: what LVM2 says
``truth/pool.txt``
    ``dmsetup status`` of a copy of the pool, just after it was activated with error_if_no_space
``truth/ID.sha256``, ``truth/ID.blkid``, ``truth/ID.manifest.jsonl``
    for each thin device: the digest of all its bytes (:func:`scripts.docker_stores.digests.digest`), read
    through the kernel before anything mounted it;
    its size, file system and Docker's name for it; and what a kernel that mounts it, which replays its
    journal, sees of each file
"""
