"""Network namespaces: their names, entering them, and their sysctls."""
