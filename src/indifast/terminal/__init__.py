"""Terminal client: a server's devices in a terminal, live, also over SSH. Needs Textual (`indifast[term]`).

`board` holds what is shown and does not depend on Textual; `session` runs the client that fills it; the rest are
widgets.
"""
