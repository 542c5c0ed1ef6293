"""How Sphinx builds the documentation: `make docs`."""

import re

import bestiary

project = "bestiary"
author = "The bestiary authors"
release = bestiary.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
default_role = "code"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "bestiary"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"

napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Departures", "Shapes and units"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

_SHAPE = re.compile(r"(?<!\\)\*(?=spec\b|shape\b)")


def _escape_shapes(_app, _what, _name, _object, _options, lines):
    # Docstrings write shapes as Python does, (n, *spec.shape), which would begin an emphasis.
    lines[:] = [_SHAPE.sub(r"\\*", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", _escape_shapes)
