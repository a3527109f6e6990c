# SPDX-License-Identifier: Apache-2.0
"""Dockerfile instructions that ``commit --change`` applies to an image's configuration.

Which ones, and what they mean, is as in moby v24.0.9: ``builder/dockerfile`` (``dispatchers.go``,
``validCommitCommands``) and buildkit's ``frontend/dockerfile/parser``.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import TYPE_CHECKING, Any

from lamella.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Config = dict[str, Any]
"""The ``config`` member of an image's configuration."""

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


def apply_changes(config: Config, changes: Iterable[str]) -> Config:
    """A copy of *config* with the instructions applied in order. Raises :class:`UsageError`."""
    made: Config = json.loads(json.dumps(config))
    for line in changes:
        name, _, rest = line.strip().partition(" ")
        apply = _INSTRUCTIONS.get(name.upper())
        if apply is None:
            raise UsageError(
                f"{name or 'an empty change'} is not a valid change command",
                hint=f"valid are {', '.join(_INSTRUCTIONS)}",
            )
        rest = rest.strip()
        if not rest:
            raise UsageError(
                f"{name.upper()} requires at least one argument", hint=f"for example: {_EXAMPLE}"
            )
        apply(made, rest)
    return made


_EXAMPLE = """-c 'CMD ["/bin/sh"]' -c 'ENV KEY=value'"""


def _bad(instruction: str, text: str, why: str) -> UsageError:
    return UsageError(f"{instruction} {text}: {why}", hint=f"for example: {_EXAMPLE}")


def _exec_form(text: str) -> list[str] | None:
    """The words of the JSON form (``["a", "b"]``), or None where it is the shell form."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _command(config: Config, text: str) -> list[str]:
    words = _exec_form(text)
    if words is not None:
        return words
    shell = config.get("Shell") or ["/bin/sh", "-c"]
    return [*shell, text]


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(config, text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(config, text)


def _words(instruction: str, text: str) -> list[str]:
    """Words split at blanks, with quotes and backslashes as a Dockerfile has them."""
    words: list[str] = []
    current: list[str] | None = None
    quote = ""
    characters = iter(text)
    for character in characters:
        if character == "\\" and quote != "'":
            following = next(characters, "\\")
            current = current or []
            keep = quote == '"' and following not in '"\\$'
            current.append(f"\\{following}" if keep else following)
        elif quote:
            if character == quote:
                quote = ""
            else:
                assert current is not None
                current.append(character)
        elif character in "'\"":
            quote = character
            current = current or []
        elif character.isspace():
            if current is not None:
                words.append("".join(current))
            current = None
        else:
            current = current or []
            current.append(character)
    if quote:
        raise _bad(instruction, text, "a quote is not closed")
    if current is not None:
        words.append("".join(current))
    return words


def _pairs(instruction: str, text: str) -> list[tuple[str, str]]:
    """``KEY=value KEY2=value2``, or the old form ``KEY value``."""
    first = text.split(None, 1)[0]
    if "=" not in first:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise _bad(instruction, text, "must have two arguments")
        return [(key, value.strip())]
    pairs = []
    for word in _words(instruction, text):
        key, equals, value = word.partition("=")
        if not equals:
            raise _bad(instruction, text, f"can't find = in {word!r}. Must be of the form: name=value")
        if not key:
            raise _bad(instruction, text, "names can not be blank")
        pairs.append((key, value))
    return pairs


def _env(config: Config, text: str) -> None:
    found = list(config.get("Env") or [])
    for key, value in _pairs("ENV", text):
        place = next((i for i, entry in enumerate(found) if entry.partition("=")[0] == key), len(found))
        found[place : place + 1] = [f"{key}={value}"]
    config["Env"] = found


def _label(config: Config, text: str) -> None:
    config["Labels"] = dict(config.get("Labels") or {}) | dict(_pairs("LABEL", text))


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in text.split():
        found = _PORT.fullmatch(word)
        low = int(found[1]) if found else 0
        high = int(found[2] or low) if found else 0
        if not found or not 0 < low <= high <= 65535:
            raise _bad("EXPOSE", text, f"invalid containerPort: {word}")
        for port in range(low, high + 1):
            ports[f"{port}/{(found[3] or 'tcp').lower()}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: Config, text: str) -> None:
    paths = _exec_form(text)
    if paths is None:
        paths = text.split()
    if not all(path.strip() for path in paths):
        raise _bad("VOLUME", text, "specified volume can not be an empty string")
    config["Volumes"] = dict(config.get("Volumes") or {}) | {path.strip(): {} for path in paths}


def _user(config: Config, text: str) -> None:
    config["User"] = text


def _workdir(config: Config, text: str) -> None:
    joined = posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "/", text))
    config["WorkingDir"] = joined.replace("//", "/", 1) if joined.startswith("//") else joined


def _stopsignal(config: Config, text: str) -> None:
    if not re.fullmatch(r"(SIG)?[A-Z0-9+-]+", text, re.IGNORECASE):
        raise _bad("STOPSIGNAL", text, "invalid signal")
    config["StopSignal"] = text


def _onbuild(config: Config, text: str) -> None:
    trigger = text.split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise _bad("ONBUILD", text, "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise _bad("ONBUILD", text, f"{trigger} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
