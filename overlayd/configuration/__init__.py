"""Settings of the daemons: from flags, the environment, a TOML file and systemd's credentials, in this order."""
