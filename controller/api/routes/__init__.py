"""The routes, one file for each kind of object.

A route reads its arguments, calls one service and writes the answer.
"""
