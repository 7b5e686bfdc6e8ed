"""The history of the intent: questions about it, and forgetting the oldest of it."""
