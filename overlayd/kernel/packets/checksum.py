"""The checksum of IP and what it carries."""


def internet_checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071); an odd last byte counts as if a zero followed it."""
    total = sum(int.from_bytes(data[start : start + 2].ljust(2, b"\0")) for start in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
