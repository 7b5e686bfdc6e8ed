"""HTTP features that all routes share.

Authentication, permissions, bounds of bodies, problem documents, pages, entity tags and streams of lines. Nothing here
knows a kind of object.
"""
