"use strict";
// Tables of class "sortable": a click on a heading sorts by that column, a second click the other way round.
function sortBy(table, column, descending) {
  const key = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim().replaceAll(",", "");
    const number = Number(text);
    return text !== "" && Number.isFinite(number) ? [0, number, ""] : [1, 0, text];
  };
  const compare = (a, b) => a[0] - b[0] || a[1] - b[1] || a[2].localeCompare(b[2], undefined, { numeric: true });
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: key(row) }));
  rows.sort((a, b) => (descending ? -1 : 1) * compare(a.key, b.key));
  table.tBodies[0].append(...rows.map((item) => item.row));
}
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.tabIndex = 0;
    const sort = () => {
      const descending = heading.ariaSort === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.ariaSort = descending ? "descending" : "ascending";
      sortBy(table, column, descending);
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}
