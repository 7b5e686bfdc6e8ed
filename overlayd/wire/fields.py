"""Reading untrusted JSON objects field by field, with errors that name the path."""

import re
from collections.abc import Callable
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, ip_address, ip_interface
from typing import TypeVar

from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""A decoded JSON document."""

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


class Fields:
    """A JSON object (`value`) and its path in the document.

    Fields that are never read are ignored: a peer of a newer release may send more.
    """

    def __init__(self, value: Json, path: str = "") -> None:
        self.path = path
        if not isinstance(value, dict):
            raise InvalidValue(f"expected an object, not {quoted(value)}", field=path or None)
        self.value = value

    def at(self, name: str) -> str:
        """Return the path of a field of this object."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Return whether the field is present and not null."""
        return self.value.get(name) is not None

    def _get(self, name: str) -> Json:
        if not self.has(name):
            raise InvalidValue("is required", field=self.at(name))
        return self.value[name]

    def text(self, name: str) -> str:
        """Return a string field."""
        value = self._get(name)
        if not isinstance(value, str):
            raise InvalidValue(f"expected a string, not {quoted(value)}", field=self.at(name))
        return value

    def number(self, name: str) -> int:
        """Return an integer field. Booleans are refused."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidValue(f"expected an integer, not {quoted(value)}", field=self.at(name))
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean field, false when it is missing."""
        value = self.value.get(name, False)
        if not isinstance(value, bool):
            raise InvalidValue(f"expected true or false, not {quoted(value)}", field=self.at(name))
        return value

    def choice(self, name: str, options: type[E]) -> E:
        """Return a field with a value of an enumeration."""
        value = self.text(name)
        try:
            return options(value)
        except ValueError:
            allowed = ", ".join(options)
            raise InvalidValue(f"{quoted(value)} is not one of {allowed}", field=self.at(name)) from None

    def address(self, name: str) -> IpAddress:
        """Return an address field of either family."""
        return parse_address(self.text(name), self.at(name))

    def ipv4(self, name: str) -> IPv4Address:
        """Return an IPv4 address field."""
        value = self.text(name)
        try:
            return IPv4Address(value)
        except AddressValueError:
            raise InvalidValue(f"{quoted(value)} is not an IPv4 address", field=self.at(name)) from None

    def addresses(self, name: str) -> tuple[IpAddress, ...]:
        """Return an array field of addresses of either family."""
        return tuple(parse_address(text, f"{self.at(name)}[{index}]") for index, text in enumerate(self.texts(name)))

    def cidrs(self, name: str) -> tuple[IpNetwork, ...]:
        """Return an array field of ranges of either family, or of single addresses."""
        return tuple(parse_part(text, f"{self.at(name)}[{index}]") for index, text in enumerate(self.texts(name)))

    def ethertypes(self, name: str) -> tuple[int, ...]:
        """Return an array field of EtherTypes."""
        return tuple(parse_ethertype(text, f"{self.at(name)}[{index}]") for index, text in enumerate(self.texts(name)))

    def cidr(self, name: str) -> IpNetwork:
        """Return a range field in CIDR form, with no host bits set."""
        return parse_cidr(self.text(name), self.at(name))

    def texts(self, name: str) -> list[str]:
        """Return an array field whose elements are strings."""
        found = []
        for index, item in enumerate(self.items(name)):
            if not isinstance(item, str):
                raise InvalidValue(f"expected a string, not {quoted(item)}", field=f"{self.at(name)}[{index}]")
            found.append(item)
        return found

    def items(self, name: str) -> list[Json]:
        """Return an array field."""
        value = self._get(name)
        if not isinstance(value, list):
            raise InvalidValue(f"expected an array, not {quoted(value)}", field=self.at(name))
        return value

    def objects(self, name: str) -> list["Fields"]:
        """Return an array field whose elements are objects."""
        return [Fields(item, f"{self.at(name)}[{index}]") for index, item in enumerate(self.items(name))]

    def object(self, name: str) -> "Fields":
        """Return an object field."""
        return Fields(self._get(name), self.at(name))

    def build(self, make: Callable[[], T]) -> T:
        """Construct a value of the model; prefix the fields in its errors with this object's path.

        `make` must not read fields: the errors of reading contain the whole path already.
        """
        try:
            return make()
        except InvalidValue as error:
            raise InvalidValue(error.detail, field=self.at(error.field) if error.field else self.path or None) from None


def parse_address(text: str, field: str) -> IpAddress:
    """Return an address of either family; raise `InvalidValue`."""
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidValue(f"{quoted(text)} is not an IP address", field=field) from None
    if "%" in text:
        raise InvalidValue(f"{quoted(text)} has a zone, which means nothing on another host", field=field)
    return address


def parse_cidr(text: str, field: str) -> IpNetwork:
    """Return a range of either family in CIDR form; raise `InvalidValue` if it is malformed or has host bits set."""
    address, slash, length = text.partition("/")
    if not (slash and length.isascii() and length.isdigit()):
        raise InvalidValue(f"{quoted(text)} is not a range such as 10.32.0.0/16", field=field)
    try:
        interface = ip_interface(f"{parse_address(address, field)}/{length}")
    except (ValueError, InvalidValue):
        raise InvalidValue(f"{quoted(text)} is not a range such as 10.32.0.0/16", field=field) from None
    if interface.ip != interface.network.network_address:
        raise InvalidValue(f"{quoted(text)} has host bits set; did you mean {interface.network}?", field=field)
    return interface.network


def parse_part(text: str, field: str) -> IpNetwork:
    """Return a range in CIDR form, or a single address as the range of that one address; raise `InvalidValue`."""
    if "/" in text:
        return parse_cidr(text, field)
    address = parse_address(text, field)
    return parse_cidr(f"{address}/{address.max_prefixlen}", field)


def parse_ethertype(text: str, field: str) -> int:
    """Read an EtherType, as ``0x88b5``; raise `InvalidValue`."""
    if not re.fullmatch("0x[0-9A-Fa-f]{4}", text):
        raise InvalidValue(f"{quoted(text)} is no EtherType, such as 0x88b5", field=field)
    return int(text, 16)
