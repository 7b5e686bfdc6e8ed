"""The way in for podman 5 and later: netavark executes a plugin, which forwards each request to a socket of the agent.

What enters is the JSON document that netavark hands to its plugins (netavark, plugin-API.md), with the operation and
the path of the container's namespace. It is translated to `attach`; answers and errors have netavark's form.
"""
