"""HTTP features that all routes share: authentication, permissions, bounds, errors, pages and entity tags."""
