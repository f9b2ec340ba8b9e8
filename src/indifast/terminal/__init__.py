"""The terminal client: a server's devices in a terminal, live, over SSH too. Needs Textual (`indifast[term]`).

`board` holds what is shown and knows no Textual; `session` runs the client that fills it; the rest are widgets.
"""
