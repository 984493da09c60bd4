// Gives the search a name, and lets the keyboard scroll wide tables; the theme does neither.
addEventListener("load", () => {
  document.querySelector(".md-search").ariaLabel = "Search";
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
