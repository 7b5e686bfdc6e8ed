"""The files of an installation, for pip and for the Debian package: their places, manual pages and shell completion.

`python -m overlayd.installation` writes them below a directory, from which the package is built.
"""
