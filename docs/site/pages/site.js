// Names and keys for what the theme leaves without: the search, and tables that scroll.
addEventListener("load", () => {
  document.querySelector(".md-search").ariaLabel = "Search";
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
