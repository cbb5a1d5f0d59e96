"""How the documentation is built: `make docs` writes docs/_build/html, warnings are errors.

Pages are Markdown that also reads on a forge. Notebooks in docs/notebooks are shown as they are,
with the pictures that `python scripts/notebook_pictures.py` has drawn of them; with
`L2LJAX_DOCS_EXECUTE=1` they are executed while the documentation is built.
"""

import os
import re
from importlib.metadata import version as version_of

project = "l2ljax"
author = "The l2ljax authors"
copyright = author
release = version_of("l2ljax")
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build", "results/cost/table.md", "results/robustness/stability.md"]
suppress_warnings = ["myst.header"]  # tables of results begin at a lower heading

nb_execution_mode = "force" if os.environ.get("L2LJAX_DOCS_EXECUTE") else "off"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "literal"  # docstrings write names between single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures stay short; docstrings say shapes and types in words
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
python_maximum_signature_line_length = 80

html_theme = "sphinx_book_theme"
html_title = "l2ljax"
html_static_path = ["_static"]
html_css_files = ["l2ljax.css"]
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navigation_with_keys": False,
    "navbar_persistent": [],
}


CELL = re.compile(r"```{code-cell} ipython3\n.*?^```\n", re.DOTALL | re.MULTILINE)
DRAWS = ("plt.show()\n```\n", ".plot()\n```\n")
"""How a cell ends that draws a figure."""


def with_pictures(text, name, folder):
    """A notebook's source with the pictures that its cells draw, where `folder` has them."""
    number = 0

    def shown(match):
        nonlocal number
        if not match[0].endswith(DRAWS):
            return match[0]
        number += 1
        if not (folder / f"{name}-{number}.png").exists():
            return match[0]
        told = text[match.end() :].partition("What to see: ")[2].partition("\n\n")[0]
        told = " ".join(told.split("`")).replace("\n", " ").partition(". ")[0].rstrip(".")
        image = f"![What the cell above draws: {told}](../images/notebooks/{name}-{number}.png)"
        return f"{match[0]}\n{image}\n"

    return CELL.sub(shown, text)


def adapt_source(app, docname, source):
    """What reads differently on a forge: files outside docs/, and pages that are not there.

    This copy may be without the notebooks, for one: then they are left out of the contents.
    """
    source[0] = source[0].replace("(../CONTRIBUTING.md", "(contributing.md")
    if docname.startswith("notebooks/") and nb_execution_mode == "off":
        name = docname.removeprefix("notebooks/")
        source[0] = with_pictures(source[0], name, app.srcdir / "images" / "notebooks")
    if docname == "index":
        for entry in ("notebooks/*", "report", "use"):
            if not any(app.srcdir.glob(f"{entry}.md")):
                source[0] = source[0].replace(f"\n{entry}\n", "\n")


def setup(app):
    app.connect("source-read", adapt_source)
