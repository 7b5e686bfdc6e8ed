"""The history of the intent: queries, and pruning of its oldest entries.

`controller.journal` writes the entries; this room reads and deletes them, and changes nothing else.
"""
