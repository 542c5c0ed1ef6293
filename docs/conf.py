"""How Sphinx builds the documentation: `make docs`."""

import inspect
import re
import warnings

import bestiary
from bestiary.models import Model

project = "bestiary"
author = "The bestiary authors"
release = bestiary.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "matplotlib.sphinxext.mathmpl"]
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
html_static_path = ["_static"]
html_css_files = ["style.css"]
pygments_style = "friendly"

warnings.filterwarnings("error", message="Could not render math")
mathmpl_fontsize = 11.0
mathmpl_srcset = ["2x"]

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
_SHORT_COMPARISON = re.compile(r"\\(ge|le)\b")
_LETTER = re.compile(r"(?<=: )([A-Z])\.$")
_SEVERAL = re.compile(r"(?<=^:ivar )\w+(, \w+)+(?=:)")


def before_napoleon(_app, _what, _name, _object, _options, lines):
    # Shapes are written as in Python, (n, *spec.shape), which would begin an emphasis. Formulas are drawn
    # by matplotlib, because the usual script would be fetched from the network; it knows \geq, not \ge.
    # A lone letter and a full stop would begin a list.
    lines[:] = [_SHAPE.sub(r"\\*", line).replace(".. math::", ".. mathmpl::") for line in lines]
    lines[:] = [_LETTER.sub(r"\1\\.", _SHORT_COMPARISON.sub(r"\\\1q", line)) for line in lines]


def after_napoleon(_app, _what, _name, _object, _options, lines):
    # Of several attributes on one line Sphinx takes all but the last for a type.
    lines[:] = [_SEVERAL.sub(lambda found: found[0].replace(", ", "/"), line) for line in lines]


def signature_of_models(_app, _what, _name, thing, _options, signature, returns):
    # `Model.__new__` takes anything and checks it against the constructor, which is what to show.
    if inspect.isclass(thing) and issubclass(thing, Model) and thing is not Model:
        _, *parameters = inspect.signature(thing.__init__).parameters.values()
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
        return str(inspect.Signature(plain)), returns
    return None


def setup(app):
    app.connect("autodoc-process-docstring", before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", after_napoleon, priority=900)
    app.connect("autodoc-process-signature", signature_of_models)
