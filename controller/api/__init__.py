"""HTTP: routes, bodies, authentication, permissions, problem documents. The rules are the services'."""
