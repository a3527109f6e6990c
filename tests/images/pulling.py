# SPDX-License-Identifier: Apache-2.0
"""An image is pulled, and everything about it checked."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lamella.images.credentials import ANONYMOUS, Credentials
from lamella.images.registry import RegistrySource
from lamella.images.transport import Transport
from tests.support.images import Sample, make_tar

if TYPE_CHECKING:
    from pathlib import Path

    from tests.images.fake_registry import Server


BIG = Sample(
    layers=[make_tar({f"file{n}": random.Random(n).randbytes(900_000)}) for n in range(5)],
    compression="plain",
)


def pull(
    server: Server,
    folder: Path,
    name: str = "lib/it:1",
    *,
    sample: Sample | None = None,
    sleeps: list[float] | None = None,
    credentials: Credentials = ANONYMOUS,
    **options: object,
) -> RegistrySource:
    """Pull and check everything; gives the (closed) source."""
    slept = sleeps if sleeps is not None else []
    carrier = Transport(verify=False, sleep=slept.append)
    reference = f"{server.host}/{name}"
    source = RegistrySource(reference, folder, credentials=credentials, transport=carrier, **options)  # type: ignore[arg-type]
    expected = sample or Sample()
    with source:
        (image,) = source.images()
        assert image.config_digest == expected.image_id
        source.prefetch(image.layers)
        for layer, data in zip(image.layers, expected.layers, strict=True):
            with layer.open() as stream:
                assert stream.read() == data
            source.release(layer)
    assert list(folder.iterdir()) == []
    return source
