"""Requests of an administrator to the controller of a lab with TLS."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.lab.lab import Lab


@contextmanager
def administrator(lab: Lab) -> Iterator[httpx.Client]:
    token = (lab.directory / "admin-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=lab.api_url, headers=headers, verify=lab.trust(), timeout=60, trust_env=False) as client:
        yield client
