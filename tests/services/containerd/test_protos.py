# SPDX-License-Identifier: Apache-2.0
"""The modules that are made from .proto files say what those say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from lamella.services.containerd import protos
from lamella.services.containerd.protos import mount_pb2, snapshots_pb2

FOLDER = Path(protos.__path__[0])
TYPES = {FieldDescriptor.TYPE_STRING: "string", FieldDescriptor.TYPE_INT64: "int64"}


def said(name: str) -> list[str]:
    """The lines of a .proto without remarks and spaces: its messages, fields and methods in their order."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", (FOLDER / f"{name}.proto").read_text(), flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines()]
    skipped = ("syntax", "import", "option")
    return [line for line in lines if line and line != "}" and not line.startswith(skipped)]


def typed(field: FieldDescriptor, package: str) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return "map<string, string>"
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


@pytest.mark.parametrize(
    ("name", "module"), [("mount", mount_pb2.DESCRIPTOR), ("snapshots", snapshots_pb2.DESCRIPTOR)]
)
def test_a_module_says_what_its_proto_says(name: str, module: FileDescriptor) -> None:
    assert sorted(made(module)) == sorted(said(name)), "run: make protos"


def test_the_types_that_mypy_reads_are_of_the_same_proto() -> None:
    for name, module in (("mount", mount_pb2.DESCRIPTOR), ("snapshots", snapshots_pb2.DESCRIPTOR)):
        text = (FOLDER / f"{name}_pb2.pyi").read_text()
        classes = re.findall(r"^class (\w+)\(_message.Message\)", text, re.MULTILINE)
        assert classes == list(module.message_types_by_name)
        for message in module.message_types_by_name.values():
            body = text.partition(f"class {message.name}(")[2].partition("\nclass ")[0]
            named = re.findall(r"^    ([A-Z0-9_]+)_FIELD_NUMBER: ", body, re.MULTILINE)
            assert named == [field.name.upper() for field in message.fields]
    methods = re.findall(r"    def (\w+)\(", (FOLDER / "snapshots_pb2_grpc.pyi").read_text())
    service = snapshots_pb2.DESCRIPTOR.services_by_name["Snapshots"]
    assert [name for name in methods if not name.startswith("_")] == [
        method.name for method in service.methods
    ]


def test_the_service_has_containerds_name() -> None:
    service = snapshots_pb2.DESCRIPTOR.services_by_name["Snapshots"]
    assert service.full_name == "containerd.services.snapshots.v1.Snapshots"
    assert (
        "'/containerd.services.snapshots.v1.Snapshots/Stat'" in (FOLDER / "snapshots_pb2_grpc.py").read_text()
    )
