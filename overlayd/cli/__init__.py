"""`overlayctl`, the command line of administrators.

It speaks to the API of the controllers, and for `status` and `plan` to the agent of its own host. `main` joins the
commands; `access` finds the controller and the credential of a call; `api` sends requests; `tables` prints answers.
Modules that are slow to import are imported by the function that needs them.
"""
