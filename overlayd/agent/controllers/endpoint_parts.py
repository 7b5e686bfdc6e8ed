"""Endpoints in parts that fit into one request each. Pure."""

import json
from collections.abc import Iterable, Iterator

from overlayd.model.endpoint import Endpoint
from overlayd.wire import records

PART_MAX = 500
"""Endpoints in one part."""

PART_BYTES_MAX = 512 * 1024
"""Bytes of the endpoints of one part; the controller refuses bodies above 1 MiB."""


def in_parts(endpoints: Iterable[Endpoint]) -> Iterator[list[Endpoint]]:
    """Yield these endpoints in parts, in their order; one that is larger than a part comes alone."""
    part: list[Endpoint] = []
    size = 0
    for endpoint in endpoints:
        length = len(json.dumps(records.encode(endpoint)))
        if part and (len(part) == PART_MAX or size + length > PART_BYTES_MAX):
            yield part
            part, size = [], 0
        part.append(endpoint)
        size += length
    if part:
        yield part
