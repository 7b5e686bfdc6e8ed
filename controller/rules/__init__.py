"""What several services must keep in one transaction.

Uniqueness, what goes with what, what stays withheld, and for how long.
"""
