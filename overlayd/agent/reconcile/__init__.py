"""The reconcile cycle.

Gather the facts of the host, resolve, observe, diff, plan, apply; and what starts the next cycle. The only room that
makes the kernel match the cluster. It knows attachments by their records only.
"""
