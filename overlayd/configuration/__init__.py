"""The settings of both daemons: where they come from, how they are checked, and how commands change them.

Precedence, highest first: flags, environment, TOML file, systemd credentials, defaults. Files of settings, tokens and
credentials are read and written here, atomically and with bounds. Which settings exist is the daemons' business.
"""
