"""Network namespaces: their names and marks, entering them, and their sysctls.

A namespace is identified by device and inode, because a name can lead to another one later.
"""
