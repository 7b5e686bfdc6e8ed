"""IP address management as pure rules: which block of a pool a host gets, and which address of it a container gets.

Also which ranges would divert an underlay address that a host needs. The controller decides by these rules, and so does
each agent. Only computation belongs here: values of the model in, values out.
"""
