"""The server's REST API, for people and scripts (docs/server.md).

Each route is a value (`route.Route`): its method, path and right, what it takes and gives. What is taken and
given are the frozen values of `shore.wire`, which `shore` itself speaks, so both ends have one vocabulary.
`application` makes of the table a FastAPI application; `door` says who asks and whether he may.
"""
