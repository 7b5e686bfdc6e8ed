"""The way in for CNI: requests of the launcher become calls of `attach`, and its results become CNI answers."""
