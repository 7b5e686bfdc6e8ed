"""The commands of `overlay-controller` beside serving: set it up, back it up, restore and migrate its store."""
