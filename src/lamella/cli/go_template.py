# SPDX-License-Identifier: Apache-2.0
"""Go's templates as ``docker --format`` takes them, without what needs Go's types.

Language: https://pkg.go.dev/text/template; functions: Go's own, and those of Docker's command line
(docker/cli, ``templates/templates.go``). docs/decisions/135-go-templates.md says what is served.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from lamella.errors import UsageError
from lamella.units import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:\\.|[^"\\])*"|`[^`]*`)
    |(?P<number>-?\d+(?:\.\d+)?)
    |(?P<variable>\$[A-Za-z_0-9]*(?:\.[A-Za-z_][\w-]*)*)
    |(?P<path>(?:\.[A-Za-z_][\w-]*)+|\.)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<mark>:=|=|\||\(|\)|,)
    )""",
    re.VERBOSE,
)
_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_MOST_DIGITS = 20
_WIDEST = 1_000_000
"""Most characters that a width of ``printf`` asks for, as Go has it."""
_FIELDS_AFTER = re.compile(r"(?:\.[A-Za-z_][\w-]*)+")


@dataclass
class _Node:
    """``text``, ``output``, ``if``, ``with`` or ``range``, with its pipeline and its branches."""

    kind: str
    value: Any = None
    variables: tuple[str, ...] = ()
    body: list[_Node] = field(default_factory=list)
    otherwise: list[_Node] = field(default_factory=list)


class Template:
    """A parsed template. Raises :class:`UsageError` for what cannot be parsed."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces = _split(text)
        self._at = 0
        try:
            self._nodes, end = self._block()
        except RecursionError:
            self._fail("nested too deeply")
        if end:
            self._fail(f"unexpected {{{{{end}}}}}")

    def render(self, data: Any) -> str:
        """The text for *data*. Raises :class:`UsageError` for a field or function that fails on it."""
        out: list[str] = []
        _Run(data, out, self._fail).nodes(self._nodes, data)
        return "".join(out)

    def _fail(self, why: str) -> NoReturn:
        raise UsageError(
            f"template parsing error: {why}, in {self._text!r}",
            hint="a field is {{.Name}}; {{json .}} shows all that there are",
        )

    # -- parsing ---------------------------------------------------------------------------------

    def _block(self) -> tuple[list[_Node], str]:
        """Nodes up to ``end`` or ``else``, and which of these ended them."""
        nodes: list[_Node] = []
        while self._at < len(self._pieces):
            is_action, text = self._pieces[self._at]
            self._at += 1
            if not is_action:
                if text:
                    nodes.append(_Node("text", text))
                continue
            if text.startswith("/*"):
                continue
            word, _, rest = text.partition(" ")
            if word == "end" or word == "else":
                self._rest = rest.strip()
                return nodes, word
            nodes.append(
                self._structure(word, rest) if word in ("if", "with", "range") else self._output(text)
            )
        return nodes, ""

    def _structure(self, word: str, rest: str) -> _Node:
        variables, pipeline = self._declaration(rest)
        node = _Node(word, pipeline, variables)
        node.body, end = self._block()
        if end == "else":
            if self._rest:  # {{else if ...}}
                inner, _, condition = self._rest.partition(" ")
                if inner not in ("if", "with"):
                    self._fail(f"unexpected {{{{else {self._rest}}}}}")
                node.otherwise = [self._structure(inner, condition)]
                return node
            node.otherwise, end = self._block()
        if end != "end":
            self._fail(f"{{{{{word}}}}} has no {{{{end}}}}")
        return node

    def _output(self, text: str) -> _Node:
        variables, pipeline = self._declaration(text)
        return _Node("output", pipeline, variables)

    def _declaration(self, text: str) -> tuple[tuple[str, ...], Any]:
        tokens = self._tokens(text)
        at = next((i for i, (_, value) in enumerate(tokens) if value in (":=", "=")), None)
        names: tuple[str, ...] = ()
        if at is not None and all(kind in ("variable", "mark") for kind, _ in tokens[:at]):
            names = tuple(value for kind, value in tokens[:at] if kind == "variable")
            tokens = tokens[at + 1 :]
        pipeline, left = self._pipeline(tokens)
        if left:
            self._fail(f"unexpected {left[0][1]}")
        return names, pipeline

    def _tokens(self, text: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        at, text = 0, text.strip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self._fail(f"unexpected {text[at:].strip()[:1]!r}")
            assert match.lastgroup is not None
            found.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
            after = _FIELDS_AFTER.match(text, at) if found[-1][1] == ")" else None
            if after:
                found.append(("after", after[0]))
                at = after.end()
        return found

    def _pipeline(self, tokens: Sequence[tuple[str, str]]) -> tuple[list[list[Any]], list[tuple[str, str]]]:
        """Commands that get the previous one's value as their last argument; each a list of operands."""
        commands: list[list[Any]] = [[]]
        rest = list(tokens)
        while rest and rest[0][1] != ")":
            kind, value = rest.pop(0)
            if value == "|" and kind == "mark":
                commands.append([])
            elif value == "(" and kind == "mark":
                inner, rest = self._pipeline(rest)
                if not rest:
                    self._fail("unclosed left paren")
                rest.pop(0)
                steps = rest.pop(0)[1] if rest and rest[0][0] == "after" else ""
                commands[-1].append(("group", (inner, steps)))
            elif kind == "text":
                commands[-1].append(("value", _literal(value)))
            elif kind == "number":
                if len(value) > _MOST_DIGITS:
                    self._fail(f"illegal number syntax: {value[:_MOST_DIGITS]!r}")
                commands[-1].append(("value", float(value) if "." in value else int(value)))
            elif kind == "word" and value in ("true", "false", "nil"):
                commands[-1].append(("value", {"true": True, "false": False, "nil": None}[value]))
            elif kind == "word" and value not in FUNCTIONS:
                self._fail(f"function {value!r} not defined")
            elif kind in ("word", "path", "variable"):
                commands[-1].append((kind, value))
            else:
                self._fail(f"unexpected {value!r}")
        if not all(commands):
            self._fail("missing value for command")
        return commands, rest


class _Run:
    """One rendering: the variables, and where the text goes."""

    def __init__(self, data: Any, out: list[str], fail: Callable[[str], NoReturn]) -> None:
        self._variables: dict[str, Any] = {"$": data}
        self._out = out
        self._fail = fail

    def nodes(self, nodes: Sequence[_Node], dot: Any) -> None:
        for node in nodes:
            if node.kind == "text":
                self._out.append(node.value)
                continue
            value = self._pipeline(node.value, dot)
            if node.kind == "range":
                self._range(node, value, dot)
                continue
            for name in node.variables:
                self._variables[name] = value
            if node.kind == "output":
                if not node.variables:
                    self._out.append(shown(value))
            elif _true(value):
                self.nodes(node.body, value if node.kind == "with" else dot)
            else:
                self.nodes(node.otherwise, dot)

    def _range(self, node: _Node, value: Any, dot: Any) -> None:
        if isinstance(value, dict):
            pairs: list[tuple[Any, Any]] = sorted(value.items())
        elif value is None or isinstance(value, list | tuple):
            pairs = list(enumerate(value or ()))
        else:
            self._fail(f"range can't iterate over {shown(value)}")
        for key, item in pairs:
            for name, bound in zip(reversed(node.variables), (item, key), strict=False):
                self._variables[name] = bound
            self.nodes(node.body, item)
        if not pairs:
            self.nodes(node.otherwise, dot)

    def _pipeline(self, commands: Sequence[Sequence[Any]], dot: Any) -> Any:
        passed: tuple[Any, ...] = ()
        for command in commands:
            (kind, value), *operands = command
            if kind == "word":
                arguments = [self._operand(operand, dot) for operand in operands]
                passed = (self._call(value, [*arguments, *passed]),)
                continue
            found = self._operand(command[0], dot)
            if callable(found):
                arguments = [self._operand(operand, dot) for operand in operands]
                passed = (self._try(command[0][1], found, [*arguments, *passed]),)
                continue
            if operands or passed:
                self._fail(f"can't give argument to non-function {value if kind != 'group' else '(...)'}")
            passed = (found,)
        return passed[0]

    def _operand(self, operand: Any, dot: Any) -> Any:
        kind, value = operand
        if kind == "value":
            return value
        if kind == "word":
            return self._call(value, [])
        if kind == "group":
            commands, steps = value
            return self._steps(self._pipeline(commands, dot), steps)
        if kind == "variable":
            name, point, steps = value.partition(".")
            if name not in self._variables:
                self._fail(f"undefined variable {name!r}")
            return self._steps(self._variables[name], point + steps)
        return self._steps(dot, value)

    def _steps(self, value: Any, path: str) -> Any:
        for name in path.split(".")[1:] if path.strip(".") else ():
            if not isinstance(value, dict) or name not in value:
                self._fail(f"there is no field {name!r}")
            value = value[name]
        return value

    def _call(self, name: str, arguments: list[Any]) -> Any:
        return self._try(name, FUNCTIONS[name], arguments)

    def _try(self, name: object, function: Callable[..., Any], arguments: list[Any]) -> Any:
        try:
            return function(*arguments)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError) as error:
            self._fail(f"error calling {name}: {error}")


def _split(text: str) -> list[tuple[bool, str]]:
    """(is an action, text) in order; ``{{-`` and ``-}}`` trim the space on their side."""
    pieces: list[tuple[bool, str]] = []
    at, trim = 0, False
    # Past the last end of an action, each beginning would be searched to the end of the text in vain.
    for match in _ACTION.finditer(text, 0, text.rfind("}}") + 2):
        before = text[at : match.start()]
        before = before.lstrip() if trim else before
        pieces.append((False, before.rstrip() if match[1] else before))
        pieces.append((True, match[2].strip()))
        at, trim = match.end(), bool(match[3])
    rest = text[at:].lstrip() if trim else text[at:]
    if "{{" in rest:
        raise UsageError(f"template parsing error: unclosed action, in {text!r}", hint="close it with }}")
    return [*pieces, (False, rest)]


def _literal(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    try:
        found: str = json.loads(text)
    except ValueError:
        raise UsageError(
            f"template parsing error: bad text {text}", hint='as in Go and JSON: "a\\tb"'
        ) from None
    return found


def _true(value: Any) -> bool:
    """Go's truth: neither zero nor empty."""
    return bool(value)


def shown(value: Any) -> str:
    """A value as Go's ``fmt`` prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{shown(each)}' for key, each in sorted(value.items()))}]"
    return str(value)


def _json(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: each for key, each in value.items() if not callable(each)}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(key, int) and not 0 <= key < len(value):
            raise LookupError(f"index out of range: {key}")
        else:
            value = value[key]
    return value


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError("missing argument for comparison")
    return any(first == other for other in others)


def _and(*values: Any) -> Any:
    return next((value for value in values if not _true(value)), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if _true(value)), values[-1])


def _printf(pattern: str, *values: Any) -> str:
    """Go's verbs %s %v %d %q %x %t %f with flags and widths, as Python's."""
    waiting = list(values)

    def put(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if any(whole_number(width, _WIDEST) is None for width in re.findall(r"\d+", flags)):
            raise ValueError(f"a width of more than {_WIDEST}")
        value = waiting.pop(0) if waiting else "%!(MISSING)"
        if verb == "q":
            value = json.dumps(value, ensure_ascii=False)
        formatted: str = f"%{flags}{verb}" % value if verb in "dxf" else f"%{flags}s" % shown(value)
        return formatted

    return re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([svdqxtf%])", put, pattern)


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _title(text: str) -> str:
    return re.sub(r"(?:^|(?<=\s))\S", lambda match: match[0].upper(), text)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    # Docker's
    "json": _json,
    "split": lambda text, separator: text.split(separator),
    "join": lambda values, separator: separator.join(values),
    "title": _title,
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "pad": _pad,
    "truncate": _truncate,
    # Go's
    "and": _and,
    "or": _or,
    "not": lambda value: not _true(value),
    "eq": _equal,
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: first < second,
    "le": lambda first, second: first <= second,
    "gt": lambda first, second: first > second,
    "ge": lambda first, second: first >= second,
    "index": _index,
    "slice": lambda value, start=0, end=None: value[start:end],
    "len": len,
    "print": lambda *values: "".join(map(shown, values)),
    "println": lambda *values: " ".join(map(shown, values)) + "\n",
    "printf": _printf,
}
"""What may be called in a template, by its name there."""
