"""What the agent remembers of its attachments, and how it finds lost records again.

Records live on the tmpfs and in the state directory. They are the truth about what is attached. Files are input: they
are checked and bounded. No controller is asked.
"""
