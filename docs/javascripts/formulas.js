// KaTeX, which is shipped with the site (assets/katex), renders what arithmatex has marked.
document$.subscribe(() => {
  for (const place of document.querySelectorAll(".arithmatex")) {
    const source = place.textContent.trim();
    const display = source.startsWith("\\[");
    katex.render(source.slice(2, -2), place, { displayMode: display, throwOnError: false });
  }
});
