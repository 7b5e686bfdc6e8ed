"""The HTTP application of a controller: `app` joins three rooms.

`routes` call the services, `bodies` are the JSON of requests and responses, and `http` is what all routes share. Rules
about networks and hosts belong to the services, not here.
"""
