"""`overlayctl`, the command-line client of administrators."""
