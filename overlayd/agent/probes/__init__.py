"""Probes: packets that find out what the kernel cannot report.

Whether full-size packets, checksums and segments get through. A probe reports problems; it changes nothing but the
offloads of the tunnel.
"""
