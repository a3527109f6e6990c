# SPDX-License-Identifier: Apache-2.0
"""Settings of ``lvm.conf`` that a session's command gets by ``--config``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

SHARE = 0.15
"""Of the commands that get a setting."""
SETTINGS = (
    'report/output_format="json"', "report/headings=0", "report/aligned=0", "report/buffered=0",
    'report/separator=","', "report/prefixes=1", "report/quoted=0", "report/columns_as_rows=1",
    "report/binary_values_as_numeric=1", 'report/lvs_sort="lv_size"', 'report/lvs_cols="lv_name,lv_tags"',
    'report/vgs_cols="vg_name,vg_free"', 'report/pvs_cols="pv_name,pv_used"', 'report/time_format="%s"',
    "report/mark_hidden_devices=0", 'report/list_item_separator="|"', "report/compact_output=1",
    'report/compact_output_cols="lv_tags"', 'global/units="b"', "global/suffix=0", 'global/units="H"',
    "global/metadata_read_only=1", "global/test=1", "global/wait_for_locks=0",
    "global/lvdisplay_shows_full_device_path=1", "global/si_unit_consistency=0",
    'global/system_id_source="uname"', 'global/system_id_source="none"', 'local/system_id="host1"',
    'global/system_id_source="lvmlocal" local/system_id="host1"', 'local/extra_system_ids=["host1","other"]',
    'global/thin_disabled_features=["discards"]', 'global/mirror_segtype_default="mirror"',
    'global/sparse_segtype_default="snapshot"', "global/event_activation=0",
    "backup/backup=0", "backup/archive=0", "backup/retain_min=1", "backup/retain_days=0",
    "devices/default_data_alignment=4", "devices/default_data_alignment=0", "devices/data_alignment=2048",
    "devices/data_alignment_detection=0", "devices/data_alignment_offset_detection=0",
    "devices/pv_min_size=600000", "devices/require_restorefile_with_uuid=0",
    "devices/allow_changes_with_duplicate_pvs=1", "devices/allow_mixed_block_sizes=1",
    "devices/ignore_suspended_devices=1", "devices/issue_discards=1", "devices/check_pv_device_sizes=0",
    "metadata/pvmetadatacopies=2", "metadata/pvmetadatacopies=0", "metadata/vgmetadatacopies=1",
    "metadata/pvmetadatasize=4096", "metadata/pvmetadataignore=1", "metadata/stripesize=16",
    "metadata/check_pv_device_sizes=0", "metadata/lvs_history_retention_time=1",
    "metadata/record_lvs_history=1", "metadata/vgmetadatacopies=-1",
    "allocation/maximise_cling=0", 'allocation/cling_tag_list=["@t1"]',
    "allocation/physical_extent_size=1024",
    "allocation/wipe_signatures_when_zeroing_new_lvs=0", "allocation/use_blkid_wiping=0",
    "allocation/thin_pool_zero=0", 'allocation/thin_pool_discards="ignore"',
    'allocation/thin_pool_chunk_size_policy="performance"', "allocation/thin_pool_chunk_size=256",
    "allocation/thin_pool_metadata_require_separate_pvs=1", "allocation/thin_pool_crop_metadata=1",
    "allocation/raid_stripe_all_devices=1", "allocation/zero_metadata=0",
    'activation/volume_list=["nosuch"]', 'activation/auto_activation_volume_list=["@t1"]',
    'activation/read_only_volume_list=["vg"]', "activation/auto_set_activation_skip=0",
    'activation/readahead="none"', "activation/error_when_full=1",
    "activation/thin_pool_autoextend_threshold=50",
    "activation/monitoring=0", 'activation/activation_mode="partial"', "activation/checks=1",
    "log/prefix=\"PP\"", "log/indent=0", "log/command_names=1", "log/silent=1", "log/verbose=0",
    "log/report_command_log=1", 'log/command_log_sort="log_seq_num"', "nosuch/setting=1", "nosuch=1",
    "report/nosuch=1", "global/units=7", "backup/backup=\"x\"", "global{units", "shell/history_size=10",
    "config/checks=0", "config/abort_on_errors=1", "tags/hosttags=1",
)  # fmt: skip


def draw_settings(draw: random.Random) -> list[str]:
    """``--config`` with one setting, or with two, or nothing."""
    if draw.random() >= SHARE:
        return []
    chosen = draw.sample(SETTINGS, draw.choice([1, 1, 1, 2]))
    return ["--config", " ".join(chosen)]
