"""Pure allocation: which block of a pool a host gets, and which address of a block a container gets."""
