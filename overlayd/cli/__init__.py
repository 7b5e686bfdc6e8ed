"""`overlayctl`: what the administrator types."""
