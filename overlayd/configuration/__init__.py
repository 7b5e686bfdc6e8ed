"""The settings of the daemons. Precedence, highest first: flags, environment, TOML file, systemd credentials."""
