// Sorts and filters the ledger of claims. Plain JavaScript, no request to anywhere; without it the table is a table.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.claims");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const text = (row, column) => row.cells[column].textContent.trim();

  const choice = (column) => {
    const select = document.createElement("select");
    const name = text(table.tHead.rows[0], column);
    select.setAttribute("aria-label", name);
    select.add(new Option(`every ${name}`, ""));
    for (const value of new Set(rows.map((row) => text(row, column)))) select.add(new Option(value, value));
    return { column, select };
  };
  const choices = ["verdict", "chapter"].map((name) => choice(heads.findIndex((head) => head.textContent.trim() === name)));
  const words = document.createElement("input");
  words.type = "search";
  words.placeholder = "words in the row";
  words.setAttribute("aria-label", words.placeholder);
  const count = document.createElement("span");
  count.setAttribute("role", "status");

  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const content = row.textContent.toLowerCase();
      row.hidden = !(
        wanted.every((word) => content.includes(word)) &&
        choices.every(({ column, select }) => !select.value || text(row, column) === select.value)
      );
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (one, other) => text(one, column).localeCompare(text(other, column), "en", { numeric: true });
      body.append(...[...rows].sort((one, other) => (down ? -order(one, other) : order(one, other))));
    });
  });

  const controls = document.createElement("div");
  controls.className = "claims-controls";
  controls.append(words, ...choices.map(({ select }) => select), count);
  for (const control of [words, ...choices.map(({ select }) => select)]) control.addEventListener("input", filter);
  table.before(controls);

  // A link to a claim shows it, whatever is filtered.
  const arrive = () => {
    const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const row = place && rows.find((each) => each.contains(place));
    if (!row) return;
    if (row.hidden) {
      words.value = "";
      for (const { select } of choices) select.value = "";
      filter();
    }
    row.scrollIntoView();
  };
  window.addEventListener("hashchange", arrive);
  filter();
  arrive();
});
