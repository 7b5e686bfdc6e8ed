"""The URLs by which hosts and people reach controllers."""

import re
from urllib.parse import urlsplit

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

_URL = re.compile(r"https?://[^/?#\s]+/?")


def check_url(url: str, field: str) -> None:
    """Raise `InvalidValue` unless this is the URL of a controller."""
    if not _is_url(url):
        raise InvalidValue(f"{quoted(url)} is not a URL such as https://10.0.0.1:7471", field=field)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        named = parts.hostname if _URL.fullmatch(text) else None
        # A look-up encodes the name like this, and raises what is no `OSError` for a part that is empty or too long.
        return bool(named and named.encode("idna")) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number up to 65535, or such a name
        return False
