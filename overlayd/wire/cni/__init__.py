"""The messages of CNI: requests and results of each version, and the conventions for what a runtime may ask. Pure."""
