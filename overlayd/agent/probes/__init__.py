"""Finding out by packets what the kernel cannot say.

Whether full-size packets, checksums and segments get through. A probe reports problems; it changes nothing but the
offloads of the tunnel.
"""
