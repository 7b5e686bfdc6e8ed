"""The commands of `overlay-controller` other than `run`.

They set a machine up (`init`), and work on a store while no controller serves: backup, restore, migrate, a new admin
token. Options that several commands share are here too.
"""
