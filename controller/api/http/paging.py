"""Lists in pages: in the order of a key, so that changes between two pages do not move other items."""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Query
from fastapi.responses import JSONResponse

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import Revision
from overlayd.wire.fields import Json

T = TypeVar("T")

LIMIT_MAX = 1000

ListPosition = tuple[str | int, ...]
"""The position of an item in its list."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The requested part of a list: `limit` items after a cursor, or the first ones."""

    limit: int
    after: ListPosition | None

    def of(self, items: Iterable[T], place: Callable[[T], ListPosition]) -> tuple[list[T], str | None]:
        """Return the items of the page, and the cursor of the next one, None if this is the last.

        Raises `InvalidValue` when the cursor is one of another list.
        """
        ordered = sorted(items, key=place)
        if self.after is not None:
            try:
                ordered = [item for item in ordered if place(item) > self.after]
            except TypeError:
                raise _NO_CURSOR from None
        following = len(ordered) > self.limit
        shown = ordered[: self.limit]
        return shown, _cursor(place(shown[-1])) if following else None

    def answer(
        self,
        items: Iterable[T],
        place: Callable[[T], ListPosition],
        show: Callable[[T], dict[str, Json]],
        revision: Revision,
    ) -> JSONResponse:
        """Answer the page."""
        shown, following = self.of(items, place)
        return JSONResponse({"items": [show(item) for item in shown], "next": following, "revision": revision})


async def _page(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="The largest number of items in a page.")] = LIMIT_MAX,
    after: Annotated[str | None, Query(max_length=1000, description="The `next` of the page before.")] = None,
) -> PageRequest:
    return PageRequest(limit, None if after is None else _place(after))


AskedPage = Annotated[PageRequest, Depends(_page)]

_NO_CURSOR = InvalidValue("is not the `next` of a page of this list", field="after")


def _cursor(place: ListPosition) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _place(cursor: str) -> ListPosition:
    try:
        found = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (ValueError, RecursionError):
        raise _NO_CURSOR from None
    if not isinstance(found, list) or not all(type(part) in (str, int) for part in found):
        raise _NO_CURSOR
    return tuple(found)
