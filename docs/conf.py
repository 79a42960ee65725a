"""How `make docs` builds the site: MyST pages, docstrings and the commands themselves, offline, warnings as errors."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from grepq_iqa import __version__  # noqa: E402

project = "grepq-iqa"
author = "The grepq-iqa developers"
copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "command_pages",
]
exclude_patterns = ["_build", "pictures/*.md"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"  # what GRepQ is made of concerns its loaders alone
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "py:obj"
smartquotes = False  # two hyphens begin an option

html_theme = "furo"
html_title = "grepq-iqa"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "tango"
pygments_dark_style = "monokai"
copybutton_exclude = ".linenos, .gp, .go"


def _list_pages(app, docname: str, content: list[str]) -> None:
    """In index.md, `name*` stands for the pages of that name that exist, `*` for those that nothing else lists."""
    if docname != app.config.root_doc:
        return
    pages = sorted(page for page in app.env.found_docs if page != docname)
    names = re.findall(r"^([\w-]+)\*?$", content[0], re.MULTILINE)
    others = [page for page in pages if not page.startswith(tuple(names))]
    matching = {name: [page for page in pages if page.startswith(name)] for name in names}
    text = re.sub(r"^([\w-]+)\*$", lambda line: "\n".join(matching[line[1]]), content[0], flags=re.MULTILINE)
    content[0] = re.sub(r"^\*$", "\n".join(others), text, flags=re.MULTILINE)


PAGE_OF = {
    "../CHANGELOG.md": "changelog.md",
    "../README.md": "index.md",
    "../grepq_iqa/training/EXPERIMENTS.md": "experiments.md",
}
"""Files of the repository that are pages of the site; links to others are downloads."""


def _keep_links(app, docname: str, content: list[str]) -> None:
    """Links that work in the repository work on the site."""
    link = re.compile(r"\]\((\.\./[^)#\s]+\.md)")
    content[0] = link.sub(lambda found: f"]({PAGE_OF.get(found[1], 'path:' + found[1])}", content[0])


def _reread_the_lists(app, env, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """The index, when there are other pages than at the last build."""
    return [app.config.root_doc] if added or removed else []


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _list_pages)
    app.connect("source-read", _keep_links)
    app.connect("env-get-outdated", _reread_the_lists)
