"""Formulas are drawn by KaTeX, which the site carries with it: nothing is loaded from a network."""

from docutils import nodes
from sphinx.application import Sphinx


def _inline(writer, node: nodes.math) -> None:
    writer.body.append(f'<span class="formula">{writer.encode(node.astext())}</span>')
    raise nodes.SkipNode


def _block(writer, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{writer.encode(node.astext())}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("katex", (_inline, None), (_block, None))
    app.config.html_math_renderer = "katex"
    app.add_css_file("katex/katex.min.css")
    app.add_js_file("katex/katex.min.js", loading_method="defer")
    app.add_js_file("formulas.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
