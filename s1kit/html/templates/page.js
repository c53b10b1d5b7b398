// Tables of class "sortable": a click on a column's head sorts by it. An input of class "search" hides the rows without
// its words, a select of class "filter" those without its value in data-kind. A link to a row opens it.
document.querySelectorAll("table.sortable").forEach((table) => {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    let up = true;
    head.addEventListener("click", () => {
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const compare = (a, b) => value(a).localeCompare(value(b), undefined, { numeric: true });
      [...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a))).forEach((row) => body.append(row));
      up = !up;
    });
  });
  const box = table.closest("section");
  const search = box.querySelector(".search"), filter = box.querySelector(".filter"), count = box.querySelector(".count");
  const update = () => {
    let shown = 0;
    for (const row of body.rows) {
      const words = search.value.toLowerCase().split(/\s+/);
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word))
        || (filter.value !== "" && !row.dataset.kind.split(" ").includes(filter.value));
      shown += !row.hidden;
    }
    count.textContent = `${shown} shown`;
  };
  search.addEventListener("input", update);
  filter.addEventListener("change", update);
});
const open = () => {
  const row = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  for (let at = row; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (row) { row.querySelectorAll("details").forEach((part) => { part.open = true; }); row.scrollIntoView(); }
};
addEventListener("hashchange", open);
open();
