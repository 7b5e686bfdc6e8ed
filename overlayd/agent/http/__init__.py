"""A small HTTP/1.1 client for the calls that the agent makes all the time.

`http_client` keeps the connections, `connection` is one of them, `response_reader` reads one response from bytes, and
`origin` is what a URL says of a server. It does what the controllers' API needs and nothing else: no redirects, no
cookies, no compression, and no proxies, as underlay traffic never goes through one. Nothing in this room knows what is
asked.
"""
