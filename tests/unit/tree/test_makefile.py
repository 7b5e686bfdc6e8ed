"""What README says that the two commands install is what the Makefile installs."""

import re

import pytest

from tests.support.lab.lab import ROOT


@pytest.mark.parametrize(("variable", "row"), [("PACKAGES", "both"), ("TEST_PACKAGES", "`make test`")])
def test_every_package_of_debian_that_is_installed_is_named(variable: str, row: str) -> None:
    (listed,) = re.findall(rf"^{variable} := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(rf"^\| {row} \| (`.*), by apt,", (ROOT / "README.md").read_text(), re.MULTILINE)
    packages = [package for text in named for package in re.findall(r"`([^`]+)`", text)]
    assert sorted(packages) == sorted(listed.replace("\\", " ").split())
