"""The commands that ask a controller, one file for each kind of object.

A command reads its options, calls the API, and prints the answer as a table or as JSON. The rules are the controller's;
only what needs no look-up is checked here.
"""
