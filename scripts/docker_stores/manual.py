# SPDX-License-Identifier: Apache-2.0
"""The commands of Docker's manual that make the pool ``docker/thinpool`` by hand.

Source: Docker's documentation, "Use the Device Mapper storage driver", "Configure direct-lvm mode manually".
"""

from __future__ import annotations

PROFILE = "docker-thinpool"
PROFILE_TEXT = """\
activation {
  thin_pool_autoextend_threshold=80
  thin_pool_autoextend_percent=20
}
"""
"""What ``/etc/lvm/profile/docker-thinpool.profile`` holds."""


def pool_commands(
    *disks: object, data: str = "-l 95%VG", metadata: str = "-l 1%VG", profile: str = PROFILE
) -> list[str]:
    """The commands in order: for the physical volumes on *disks*, the group, the pool's two halves (of which
    *data* and *metadata* are the size options), the pool, and its *profile*."""
    paths = " ".join(map(str, disks))
    return [
        f"pvcreate {paths}",
        f"vgcreate docker {paths}",
        f"lvcreate --wipesignatures y -n thinpool docker {data}",
        f"lvcreate --wipesignatures y -n thinpoolmeta docker {metadata}",
        "lvconvert -y --zero n -c 512K --thinpool docker/thinpool --poolmetadata docker/thinpoolmeta",
        f"lvchange --metadataprofile {profile} docker/thinpool",
    ]
