"""What README says that the two commands install is what the Makefile installs."""

import re
import subprocess

import pytest

from tests.support.lab.lab import ROOT
from tests.support.machines.rootfs import PACKAGED


@pytest.mark.parametrize(("variable", "row"), [("PACKAGES", "both"), ("TEST_PACKAGES", "`make test`")])
def test_every_package_of_debian_that_is_installed_is_named(variable: str, row: str) -> None:
    (listed,) = re.findall(rf"^{variable} := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(rf"^\| {row} \| (`.*), by apt,", (ROOT / "README.md").read_text(), re.MULTILINE)
    packages = [package for text in named for package in re.findall(r"`([^`]+)`", text)]
    assert sorted(packages) == sorted(listed.replace("\\", " ").split())


def test_the_package_is_built_for_the_releases_that_machines_of_the_tests_have() -> None:
    (listed,) = re.findall(r"^RELEASES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed.split() == list(PACKAGED)
    page = (ROOT / "docs/install.md").read_text()
    for codename, number in PACKAGED.items():
        assert f"make deb RELEASE={codename}" in page
        assert f"overlayd_0.2.0+deb{number}_amd64.deb" in page
        assert f"Debian {number} ({codename})" in (ROOT / "README.md").read_text()


def test_a_release_for_which_no_package_is_built_is_refused_and_the_others_are_named() -> None:
    recipe = re.search(r"^deb: .*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    makefile = f"SHELL := /bin/bash\nRELEASES := bookworm trixie\ninstall_missing = false\ndeb:\n{recipe[1]}"
    done = subprocess.run(
        ["make", "--file=-", "deb", "RELEASE=sid"], input=makefile, capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "the package is built for Debian bookworm or trixie, not for sid" in done.stderr
