# SPDX-License-Identifier: Apache-2.0
"""The modules that are made from .proto files say what those say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from lamella.services.containerd import protos
from lamella.services.containerd.protos import descriptor_pb2, diff_pb2, mount_pb2, snapshots_pb2

FOLDER = Path(protos.__path__[0])
TYPES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_BOOL: "bool",
}
MODULES = {
    "descriptor": descriptor_pb2.DESCRIPTOR,
    "diff": diff_pb2.DESCRIPTOR,
    "mount": mount_pb2.DESCRIPTOR,
    "snapshots": snapshots_pb2.DESCRIPTOR,
}


def said(name: str) -> list[str]:
    """The lines of a .proto without remarks and spaces: its messages, fields and methods in their order."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", (FOLDER / f"{name}.proto").read_text(), flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines()]
    skipped = ("syntax", "import", "option")
    return [line for line in lines if line and line != "}" and not line.startswith(skipped)]


def typed(field: FieldDescriptor, package: str) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{typed(key, package)}, {typed(value, package)}>"
    named = field.message_type or field.enum_type
    name = TYPES[field.type] if named is None else named.full_name.removeprefix(f"{package}.")
    return f"repeated {name}" if field.is_repeated else name


def fields(message: Descriptor, package: str) -> list[str]:
    return [f"{typed(field, package)} {field.name} = {field.number};" for field in message.fields]


def made(module: FileDescriptor) -> list[str]:
    """What a .proto would say that such a module is made from, in the order of the descriptors."""
    lines = [f"package {module.package};"]
    for service in module.services_by_name.values():
        lines.append(f"service {service.name} {{")
        for method in service.methods:
            stream = "stream " if method.server_streaming else ""
            took = method.input_type.full_name.removeprefix(f"{module.package}.")
            gave = method.output_type.full_name.removeprefix(f"{module.package}.")
            lines.append(f"rpc {method.name}({took}) returns ({stream}{gave});")
    for message in module.message_types_by_name.values():
        lines += [f"message {message.name} {{", *fields(message, module.package)]
    for enum in module.enum_types_by_name.values():
        lines += [f"enum {enum.name} {{", *(f"{value.name} = {value.number};" for value in enum.values)]
    return lines


def test_each_proto_has_a_module() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.proto")) == sorted(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_its_proto_says(name: str) -> None:
    assert sorted(made(MODULES[name])) == sorted(said(name)), "run: make protos"


@pytest.mark.parametrize("name", MODULES)
def test_the_types_that_mypy_reads_are_of_the_same_proto(name: str) -> None:
    text = (FOLDER / f"{name}_pb2.pyi").read_text()
    messages = MODULES[name].message_types_by_name
    assert re.findall(r"^class (\w+)\(_message.Message\)", text, re.MULTILINE) == list(messages)
    for message in messages.values():
        body = text.partition(f"class {message.name}(")[2].partition("\nclass ")[0]
        named = re.findall(r"^    ([A-Z0-9_]+)_FIELD_NUMBER: ", body, re.MULTILINE)
        assert named == [field.name.upper() for field in message.fields]
    for service in MODULES[name].services_by_name.values():
        text = (FOLDER / f"{name}_pb2_grpc.pyi").read_text()
        methods = re.findall(r"    def (\w+)\(", text)
        assert [found for found in methods if not found.startswith("_")] == [
            method.name for method in service.methods
        ]


@pytest.mark.parametrize(
    "name", ["containerd.services.snapshots.v1.Snapshots", "containerd.services.diff.v1.Diff"]
)
def test_a_service_has_containerds_name(name: str) -> None:
    module = name.split(".")[2]
    assert [service.full_name for service in MODULES[module].services_by_name.values()] == [name]
    assert f"'/{name}/" in (FOLDER / f"{module}_pb2_grpc.py").read_text()
