"""Whole frames and packets: announcements, probes, and programs of classic BPF that filter frames."""
