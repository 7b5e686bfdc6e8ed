"""Plain network namespaces: what `overlayd netns` asks of the agent, translated to `attach`.

A namespace is made by the command (overlayd/agent/commands/netns.py); what enters here is a request of the control
socket that names one by its path.
"""
