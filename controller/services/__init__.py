"""The nouns that the API changes.

Networks, hosts, blocks, endpoints, reservations, tokens. Each change is one transaction.
"""
