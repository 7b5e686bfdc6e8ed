"""Whole frames and packets: announcements, probes, checksums, and programs of classic BPF that filter frames.

What a probe means is decided in `overlayd.agent.probes`.
"""
