"""The vocabulary of the overlay: frozen values that validate themselves. Standard library only."""
