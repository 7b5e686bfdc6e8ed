"""The vocabulary of the overlay: frozen values that check themselves when they are made. Standard library only.

Networks, hosts, blocks, endpoints and reservations are the records of a cluster; addresses, ids and errors are what
they consist of; bandwidth and published ports belong to an attachment on its own host. A value belongs here when two
packages above use it. How a value is spelled as JSON or in the store is not known here.
"""
