"""The way in for CNI: requests of the launcher become calls of `attach`, and its results become CNI answers.

Only what CNI alone has is here: its answers and error codes, the queue of DELs, GC and STATUS.
"""
