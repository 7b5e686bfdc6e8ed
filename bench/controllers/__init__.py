"""Stores and real controllers, and programs that ask these as many hosts do."""
