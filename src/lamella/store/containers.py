# SPDX-License-Identifier: Apache-2.0
"""Containers: the record of a new one, and what is listed and inspected of them. Removal: :mod:`.rm`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lamella import clock
from lamella.errors import ExistsError, UsageError
from lamella.store import names
from lamella.store.catalog import Container
from lamella.store.images import document, parse_config
from lamella.store.results import ContainerSummary, parse_time, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.active_devices import Present
    from lamella.driver.state import Device, State
    from lamella.store.catalog import Catalog, Image


def plan(catalog: Catalog, image: Image, image_name: str, name: str | None) -> Container:
    """The record of a new container of *image*, with its name generated or checked."""
    if name is None:
        chosen = names.new_name(lambda candidate: catalog.container_named(candidate) is not None)
    else:
        chosen = _free_name(catalog, name)
    identity = names.new_id()
    config = document(image).get("config") or {}
    config = config | {"Hostname": identity[:12], "Image": image_name}
    return Container(
        id=identity,
        name=chosen,
        image=image.id,
        image_name=image_name,
        top=image.top,
        device=identity,
        created=time_text(clock.utc()),
        config=json.dumps(config).encode(),
    )


def _free_name(catalog: Catalog, name: str) -> str:
    """*name* without the slash that Docker allows in front. Raises if it is bad, or another container's."""
    chosen = names.check_name(name)
    holder = catalog.container_named(chosen)
    if holder is not None:
        raise ExistsError(
            f'Conflict. The container name "/{chosen}" is already in use by container "{holder.id}". '
            "You have to remove (or rename) that container to be able to reuse that name.",
            hint="choose another name",
        )
    return chosen


def rename(catalog: Catalog, name: str, new: str) -> None:
    """Give a container another name, inside a transaction; as Docker refuses it, so does this."""
    container = catalog.find_container(name)
    if names.check_name(new) == container.name:
        raise UsageError(
            "Renaming a container with the same name as its current name", hint="choose another name"
        )
    catalog.rename_container(container, _free_name(catalog, new))


def labels(container: Container) -> dict[str, str]:
    """The labels in the container's configuration."""
    return dict(run_config(container).get("Labels") or {})


def run_config(container: Container) -> dict[str, Any]:
    """The container's configuration: its image's at the time that it was created."""
    return parse_config(
        container.config,
        f"container {container.name}",
        "copy its files out with lamella cp, remove it and create it again",
    )


def summary(state: State, container: Container, mounted: Sequence[str] = ()) -> ContainerSummary:
    """The container as a list shows it; *mounted*: where it is."""
    device = state.device(container.device)
    config = run_config(container)
    return ContainerSummary(
        id=container.id,
        name=container.name,
        image=container.image_name,
        image_id=container.image,
        created=parse_time(container.created),
        size=device.size if device else 0,
        command=[*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])],
        mounted=list(mounted),
        labels=labels(container),
    )


def inspect(container: Container, driver: dict[str, Any]) -> dict[str, Any]:
    """What ``docker container inspect`` says, as far as it means something here."""
    config = run_config(container)
    command = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    return {
        "Id": container.id,
        "Created": container.created,
        "Path": command[0] if command else "",
        "Args": command[1:],
        "State": {"Status": "created", "Running": False, "Paused": False, "Pid": 0, "ExitCode": 0},
        "Image": container.image,
        "Name": f"/{container.name}",
        "Driver": "devicemapper",
        "Platform": "linux",
        "GraphDriver": driver,
        "Mounts": [],
        "Config": config,
    }


def driver_data(device: Device | None, device_name: str, here: Present | None) -> dict[str, Any]:
    """``GraphDriver`` as the devicemapper driver fills it in; all numbers are text there.

    ``State`` is Lamella's addition: whether the device is active, and where it is mounted.
    """
    if device is None:
        return {"Data": None, "Name": "devicemapper"}
    data = {"DeviceId": str(device.device_id), "DeviceName": device_name, "DeviceSize": str(device.size)}
    state = {
        "Active": here is not None,
        "Suspended": here is not None and here.suspended,
        "Mounted": here.points if here is not None else [],
    }
    return {"Data": data, "Name": "devicemapper", "State": state}
