"""The CNI plugin: the launchers that container runtimes execute, and their installation. Imports nothing of ours."""
