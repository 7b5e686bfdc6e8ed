"""Installs the files of a package below a directory: python -m overlayd.installation SHIPPED ROOT."""

import sys
from pathlib import Path

from overlayd.installation.files import files, put
from overlayd.installation.layout import PACKAGE
from overlayd.installation.programs import MachineRole

if __name__ == "__main__":
    shipped, root = map(Path, sys.argv[1:])
    for _ in put(files(MachineRole, PACKAGE, shipped), root):
        pass
