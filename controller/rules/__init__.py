"""Rules that several services must keep within one transaction.

Uniqueness, what is removed together, what stays withheld, and for how long.
"""
