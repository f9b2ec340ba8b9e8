"""Configuration of the documentation: `make docs` builds it with Sphinx into build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

from indifast import version as release  # noqa: E402

project = "indifast"
author = "the indifast developers"
copyright = "the indifast developers"
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_reference",
    "default_values",
    "python_names",
    "repository_links",
]

# -- Pages

exclude_patterns = ["_extensions", "_static", "pictures/*.py"]
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "fieldlist"]
suppress_warnings = [
    "misc.highlighting_failure"
]  # a fragment with ... in place of its arguments is not worth a warning

smartquotes_action = "qe"  # not dashes: "--connect" is an option, also in the text of a page

# -- The API, from the docstrings

default_role = "code_or_reference"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False
toc_object_entries_show_parents = "hide"

# -- The site: nothing on it comes from another host, so that it works offline, the search included

html_theme = "furo"
html_title = f"indifast {release}"
html_static_path = ["_static"]
html_css_files = ["indifast.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
