"""The host agent: follows the feed, makes the kernel match the desired state, and attaches workloads.

`daemon` joins the rooms; each of them builds its own parts in `wiring`. `main` is the command, `settings` its options.
"""
