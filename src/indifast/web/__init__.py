"""A server's devices for browsers and for programs that speak HTTP. Needs Starlette (`indifast[web]`).

`hub` runs the client and knows what is to be told to whom, `frames` holds the newest frames, and `access` says who may
do what: none of them knows HTTP. `guard`, `api` and `events` are the application, `serving` is what runs it.
"""
