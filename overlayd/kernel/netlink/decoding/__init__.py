"""What the kernel says: from the payloads of rtnetlink messages to items, in the canonical form of desired items.

An attribute that the kernel leaves out stands for a default. What is not ours by its mark (protocol, NTF_EXT_LEARNED)
is left out here. A file for each kind of message, and the tables as they were last read.
"""
