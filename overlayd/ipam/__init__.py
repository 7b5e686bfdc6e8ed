"""Pure allocation: which block a host gets of a pool, and which address a container gets of a block."""
