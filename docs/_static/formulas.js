// Each .formula holds LaTeX as text, which KaTeX replaces; a block is a div, a formula within a line is a span.
for (const place of document.querySelectorAll(".formula")) {
  katex.render(place.textContent, place, { displayMode: place.tagName === "DIV", throwOnError: false });
}
