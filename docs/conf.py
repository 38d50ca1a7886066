"""The documentation site: `make docs` builds it, with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import headrace  # noqa: E402

project = "headrace"
author = "the headrace developers"
copyright = author
release = version = headrace.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "settings_table",
]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build", "_static/*.md"]  # those are parts of a page, not pages

html_theme = "furo"
html_title = "headrace"
html_static_path = ["_static"]
html_css_files = ["settings.css", "developing.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0f6d8c", "color-brand-content": "#0f6d8c"},
    "dark_css_variables": {"color-brand-primary": "#6cc5e0", "color-brand-content": "#6cc5e0"},
}

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# Docstrings are written with `backticks` for code, and with Google's headings.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "inherited-members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
pygments_style = "friendly"
# A parameter of type `type` could be a link to several attributes of that name.
suppress_warnings = ["ref.python"]


def setup(app: Any) -> dict[str, Any]:
    return {"parallel_read_safe": True}
