"""What container runtimes execute: the launcher in Python, and its installation. Imports nothing of ours."""
