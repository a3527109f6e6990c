# SPDX-License-Identifier: Apache-2.0
"""What a scrape has: every metric of the table, and the numbers that the store's own commands give."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from lamella._version import __version__
from lamella.errors import BusyError, CorruptError, NetworkError, NoSpaceError
from lamella.services.containerd.codes import CODES as containerd_codes
from lamella.services.metrics.operations import CODES, ERRORS
from lamella.services.metrics.table import SNAPSHOT_KINDS, STATES, TABLE, USAGE_KINDS
from lamella.store import Store
from lamella.store.gauges import KINDS
from lamella.store.names import AmbiguousNameError
from lamella.store.snapshot_model import Kind
from tests.services.metrics.conftest import Readers, families, fetch, serving, values
from tests.store.test_snapshots import hosted

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.services.metrics import MetricsService

DOCS = Path(__file__).parents[3] / "docs"


def scrape(service: MetricsService) -> str:
    """A scrape that has the usage too, which is counted beside it."""
    service._collector.usage.get(60)
    answer = fetch(service.address)
    assert answer.status == 200
    return answer.text


@pytest.mark.parametrize("mode", ["loop-lvm", "direct-lvm"])
def test_a_scrape_has_every_metric_of_the_table(store_in: Callable[[str], Path], mode: str) -> None:
    with serving(Readers(store_in(mode), Kind.ACTIVE)) as service:
        service.operations.observe("Prepare", 0.02, "ok")
        service.operations.observe_command("pull", 2.0, NetworkError.exit_code)
        text = scrape(service)
    found = families(text)
    absent = {"loop-lvm": "lamella_group_free_bytes", "direct-lvm": "lamella_host_free_bytes"}[mode]
    own = {name: family for name, family in found.items() if name.startswith("lamella_")}
    wanted = {name.removesuffix("_total"): metric for name, metric in TABLE.items() if name != absent}
    assert set(own) == {f"{name}_info" if m.type == "info" else name for name, m in wanted.items()}
    for name, metric in wanted.items():
        family = own[f"{name}_info" if metric.type == "info" else name]
        assert family.type == ("gauge" if metric.type == "info" else metric.type)  # in the text format
        assert family.documentation == metric.help
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(metric.labels)
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= set(found)
    assert "_created" not in text


@pytest.mark.parametrize("mode", ["loop-lvm", "direct-lvm"])
def test_the_numbers_are_those_of_info_and_df(store_in: Callable[[str], Path], mode: str) -> None:
    root = store_in(mode)
    with serving(Readers(root, Kind.ACTIVE, Kind.COMMITTED, Kind.ACTIVE)) as service:
        text = scrape(service)
    with Store.open(root, read_only=True) as store:
        info, rows, status = store.info(), store.df(), store.devices.pool.status()

    def one(name: str) -> float:
        (value,) = values(text, name).values()
        return value

    assert one("lamella_pool_data_used_bytes") == info.data_used
    assert one("lamella_pool_data_size_bytes") == info.data_total
    assert one("lamella_pool_metadata_used_bytes") == info.metadata_used
    assert one("lamella_pool_metadata_size_bytes") == info.metadata_total
    assert one("lamella_pool_chunk_size_bytes") == info.chunk_size
    assert one("lamella_pool_transaction_id") == status.transaction_id
    assert one("lamella_pool_needs_check") == 0
    assert one("lamella_store_up") == 1
    assert one("lamella_images") == 1
    assert one("lamella_pool_minimum_free_ratio") == 0
    assert values(text, "lamella_devices") == dict.fromkeys(KINDS, 0) | {
        "base": 1,
        "layer": 3,
        "container": 1,
    }
    assert one("lamella_pool_devices") == 5
    assert values(text, "lamella_snapshots") == dict.fromkeys(SNAPSHOT_KINDS, 0) | {
        "active": 2,
        "committed": 1,
    }
    states = values(text, "lamella_pool_state")
    assert set(states) == set(STATES)
    assert [state for state, value in states.items() if value] == [info.state]
    assert [mode for mode, value in values(text, "lamella_pool_mode").items() if value] == ["write"]
    assert list(values(text, "lamella_store_info")) == [f"user,{mode},{info.pool_name}"]
    assert any(label.endswith(__version__) for label in values(text, "lamella_build_info"))
    exclusive, shared = (values(text, f"lamella_usage_{kind}_bytes") for kind in ("exclusive", "shared"))
    assert set(exclusive) == set(shared) == set(USAGE_KINDS)
    assert sum(exclusive.values()) + sum(shared.values()) == info.data_used
    for kind in USAGE_KINDS:
        assert exclusive[kind] == sum(row.exclusive for row in rows if row.kind == kind)
    assert shared["layer"] > 0  # the upper layers map what the lower ones wrote
    assert 0 <= one("lamella_usage_age_seconds") < 600


def test_devices_to_be_deleted_and_unknown_ones_are_counted(root: Path) -> None:
    with Store.open(root) as store:
        state = store.devices.state
        (container,) = state.texts("SELECT device FROM containers")
        with state.transaction():
            state.mark_deleted(container)
        store.devices.pool.create_thin(4000)
        found = store.gauges().devices
    assert found == {"base": 1, "layer": 3, "container": 0, "snapshot": 0, "deleted": 1, "other": 1}


def test_free_extents_are_those_of_the_group(store_in: Callable[[str], Path]) -> None:
    root = store_in("direct-lvm")
    with serving(Readers(root)) as service:
        before = values(scrape(service), "lamella_group_free_bytes")[""]
    grown = Store.grow(root, data="+4M")
    with serving(Readers(root)) as service:
        after = values(scrape(service), "lamella_group_free_bytes")[""]
    assert grown.data[1] - grown.data[0] == 4 << 20
    assert before - after == 4 << 20


def test_openmetrics_is_given_to_who_asks_for_it(root: Path) -> None:
    with serving(Readers(root)) as service:
        answer = fetch(service.address, Accept="application/openmetrics-text; version=1.0.0")
        plain = fetch(service.address)
    assert answer.type.startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    found = {family.name: family.type for family in parse_openmetrics(answer.text)}
    assert found["lamella_build"] == "info"
    assert found["lamella_errors"] == "counter"
    assert plain.type.startswith("text/plain; version=")


def test_operations_are_counted_by_result_and_failures_by_class(root: Path) -> None:
    with serving(Readers(root)) as service:
        for result in (
            "ok",
            "OK",
            NoSpaceError.__name__,
            AmbiguousNameError.__name__,
            "RESOURCE_EXHAUSTED",
            "KeyError",
        ):
            service.operations.observe("Prepare", 0.004, result)
        service.operations.observe_command("ps", 0.5, 0)
        service.operations.observe_command("rm", 0.5, BusyError.exit_code)
        service.operations.observe_command("rm", 0.5, 130)
        text = fetch(service.address).text
    assert values(text, "lamella_operations_total") == {"Prepare,ok": 2, "Prepare,error": 4}
    assert values(text, "lamella_control_commands_total") == {"ps,ok": 1, "rm,error": 2}
    counted = values(text, "lamella_errors_total")
    assert set(counted) == set(ERRORS)
    assert {name: value for name, value in counted.items() if value} == {
        "NoSpaceError": 2,
        "UsageError": 1,  # a name that is ambiguous is one
        "Exception": 2,
        "BusyError": 1,
    }
    buckets = values(text, "lamella_operation_duration_seconds_bucket")
    assert buckets["0.0025,Prepare"] == 0
    assert buckets["0.005,Prepare"] == 6
    assert values(text, "lamella_operation_duration_seconds_count") == {"Prepare": 6}


def test_a_scrape_is_answered_while_the_store_answers_nobody(root: Path) -> None:
    hosted = Readers(root)
    let_go = threading.Event()
    with serving(hosted) as service:
        first = scrape(service)
        hosted.before = let_go.wait
        service._collector.sample._next = 0.0  # it is time to read again
        try:
            held = fetch(service.address)
            again = service.health()
        finally:
            let_go.set()
    assert held.status == 200
    name = "lamella_pool_data_used_bytes"
    assert values(held.text, name) == values(first, name) != {}
    assert values(held.text, "lamella_store_up") == {"": 1}
    assert again[0]


def test_a_scrape_works_beside_a_writer(root: Path) -> None:
    hosted = Readers(root)
    hosted.alone = False
    with Store.open(root) as writer, writer._opened.beside_readers(), serving(hosted) as service:
        assert values(scrape(service), "lamella_store_up") == {"": 1}


def test_a_store_that_cannot_be_read_is_counted_and_the_last_numbers_stay(root: Path) -> None:
    hosted = Readers(root)

    def damaged() -> None:
        raise CorruptError("state.db is damaged: no more", hint="restore it")

    with serving(hosted) as service:
        first = scrape(service)
        hosted.before = damaged
        service._collector.sample._next = 0.0
        text = fetch(service.address).text
        answer = fetch(service.address, "/healthz")
    assert values(text, "lamella_store_up") == {"": 0}
    assert values(text, "lamella_store_read_errors_total")["CorruptError"] >= 1
    name = "lamella_pool_data_used_bytes"
    assert values(text, name) == values(first, name) != {}
    assert answer.status == 503
    assert answer.text == "the store cannot be read: state.db is damaged: no more\n"


def test_usage_is_not_counted_for_each_scrape(root: Path) -> None:
    with serving(Readers(root)) as service:
        scrape(service)
        scrape(service)
        assert service._collector.usage.get(0).reads == 1


def test_the_states_are_those_of_the_reference() -> None:
    text = (DOCS / "reference/pool-states.md").read_text()
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    named = {state for cell in cells for state in re.findall(r"`([\w-]+)`", cell)}
    # These are of pools that are not open: activating them is refused.
    named -= {"error-table", "wrong-chunk-size", "data-device-smaller", "metadata-device-smaller"}
    assert named == set(STATES)


def test_codes_stand_for_the_classes_that_the_snapshotter_answers_with_them() -> None:
    answered = {code.name: error.__name__ for error, code in reversed(containerd_codes.items())}
    internal = {name for name in answered if name in ("INTERNAL",)}
    assert {name: answered[name] for name in CODES} == CODES
    assert set(answered) == {*CODES, *internal}


def test_a_hosted_store_is_read(root: Path) -> None:
    with hosted(root) as host, serving(host) as service:
        host.snapshots.prepare("one", "", {})
        service._collector.sample._next = 0.0
        service._collector.usage.get(60)
        service._collector.usage._next = 0.0
        text = scrape(service)
        well = service.health()
    assert values(text, "lamella_devices")["snapshot"] == 1
    assert values(text, "lamella_snapshots")["active"] == 1
    space = [sum(values(text, f"lamella_usage_{kind}_bytes").values()) for kind in ("exclusive", "shared")]
    assert [sum(space)] == list(values(text, "lamella_pool_data_used_bytes").values())
    assert [mode for mode, value in values(text, "lamella_pool_mode").items() if value] == ["write"]
    assert well == (True, "fine")


def test_a_hosted_store_is_read_while_another_thread_writes(root: Path) -> None:
    """The writer holds the turn for as long as this test likes."""
    with hosted(root) as host, serving(host) as service:
        scrape(service)
        with host.turn():
            service._collector.sample._next = 0.0
            held = fetch(service.address)
        assert held.status == 200
        assert values(held.text, "lamella_store_up") == {"": 1}
