"""What all routes share of HTTP: who calls, what they may do, bounds, errors, pages and entity tags."""
