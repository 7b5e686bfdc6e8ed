"""The history of the intent: queries, and pruning of its oldest entries."""
