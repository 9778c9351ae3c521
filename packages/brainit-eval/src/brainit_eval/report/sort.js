"use strict";
(() => {
  const table = document.getElementById("images");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const text = document.getElementById("filter");
  const selects = [...document.querySelectorAll("select[data-column]")];
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const score = (row, column) => {
    const value = row.cells[column].dataset.v;
    return value ? Number(value) : NaN;
  };

  // Scores: the best first, then the worst first, what has none always last. Words: A to Z, Z to A.
  function sort(column) {
    const head = heads[column];
    const numeric = "higher" in head.dataset;
    const first = head.dataset.higher === "true" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    const keys = new Map(rows.map((row) => [row, numeric ? score(row, column) : row.cells[column].textContent]));
    rows.sort((a, b) => {
      const x = keys.get(a), y = keys.get(b);
      if (!numeric) return sign * compare(x, y);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return sign * (x - y);
    });
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    body.append(...rows);
  }

  function filter() {
    const wanted = text.value.trim().toLowerCase();
    for (const row of rows) {
      const words = [...row.querySelectorAll(".word")].map((cell) => cell.textContent.toLowerCase());
      row.hidden =
        !words.some((word) => word.includes(wanted)) ||
        selects.some((one) => one.value && row.cells[one.dataset.column].textContent !== one.value);
    }
    const shown = rows.filter((row) => !row.hidden);
    document.getElementById("shown").textContent = `${shown.length} of ${rows.length} rows`;
    heads.forEach((head, column) => {
      if (!("higher" in head.dataset)) return;
      const values = shown.map((row) => score(row, column)).filter((value) => !isNaN(value));
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const percent = "percent" in head.dataset;
      const digits = percent ? (100 * mean).toFixed(1) : mean.toFixed(3);
      table.tFoot.rows[0].cells[column].textContent = values.length ? digits.replace("-", "−") : "–";
    });
  }

  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => sort(column)));
  text.addEventListener("input", filter);
  for (const one of selects) one.addEventListener("change", filter);
  filter();
})();
