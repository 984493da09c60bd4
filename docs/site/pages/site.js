// Labels the search for screen readers, and lets the keyboard scroll wide tables, because the
// theme does neither.
addEventListener("load", () => {
  document.querySelector(".md-search").ariaLabel = "Search";
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
