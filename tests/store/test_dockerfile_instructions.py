# SPDX-License-Identifier: Apache-2.0
"""Dockerfile instructions of ``commit --change``."""

from __future__ import annotations

from typing import Any

import pytest

from lamella.errors import UsageError
from lamella.store.dockerfile_instructions import apply_changes


@pytest.mark.parametrize(
    ("before", "line", "after"),
    [
        ({}, 'CMD ["a", "b c"]', {"Cmd": ["a", "b c"]}),
        ({}, "cmd echo hi", {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        (
            {"Shell": ["/bin/bash", "-c"]},
            "CMD x",
            {"Shell": ["/bin/bash", "-c"], "Cmd": ["/bin/bash", "-c", "x"]},
        ),
        ({}, 'ENTRYPOINT ["/e"]', {"Entrypoint": ["/e"]}),
        # What is no JSON is for the shell, as Docker has it; its parser takes 10,000 levels.
        ({}, "CMD " + "[" * 60_000, {"Cmd": ["/bin/sh", "-c", "[" * 60_000]}),
        ({}, 'ENV A=1 B=\'two words\' C="a\\"b"', {"Env": ["A=1", "B=two words", 'C=a"b']}),
        ({}, "ENV A some words", {"Env": ["A=some words"]}),
        ({"Env": ["A=1", "B=2"]}, "ENV A=3 D=a\\ b", {"Env": ["A=3", "B=2", "D=a b"]}),
        ({"Labels": {"x": "1"}}, 'LABEL y="a b"', {"Labels": {"x": "1", "y": "a b"}}),
        (
            {},
            "EXPOSE 80 53/UDP 8000-8001",
            {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}},
        ),
        ({}, "USER 1000:1000", {"User": "1000:1000"}),
        ({}, "WORKDIR /srv/x/", {"WorkingDir": "/srv/x"}),
        ({"WorkingDir": "/srv"}, "WORKDIR ../etc", {"WorkingDir": "/etc"}),
        ({"Volumes": {"/a": {}}}, 'VOLUME ["/b", "/c"]', {"Volumes": {"/a": {}, "/b": {}, "/c": {}}}),
        ({}, "VOLUME /b /c", {"Volumes": {"/b": {}, "/c": {}}}),
        ({}, "STOPSIGNAL SIGTERM", {"StopSignal": "SIGTERM"}),
        ({}, "ONBUILD RUN make", {"OnBuild": ["RUN make"]}),
    ],
)
def test_instructions(before: dict[str, Any], line: str, after: dict[str, Any]) -> None:
    kept = dict(before)
    assert apply_changes(before, [line]) == after
    assert before == kept


@pytest.mark.parametrize(
    "line",
    [
        "",
        "RUN make",
        "COPY a b",
        "CMD",
        "ENV",
        "ENV A",
        "ENV A=1 B",
        "ENV A='x",
        "EXPOSE http",
        "EXPOSE 99999",
        "EXPOSE 9-8",
        'VOLUME [""]',
        "STOPSIGNAL ;",
        "ONBUILD ONBUILD RUN x",
        "ONBUILD FROM x",
        "LABEL =x",
    ],
)
def test_what_is_no_instruction(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        apply_changes({}, [line])
    assert caught.value.hint


def test_several_apply_in_order() -> None:
    made = apply_changes({}, ["WORKDIR /a", "WORKDIR b", "ENV X=1", "ENV X=2"])
    assert made == {"WorkingDir": "/a/b", "Env": ["X=2"]}
