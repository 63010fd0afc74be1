"use strict";
report.beginnings.push(() => {
  for (const line of document.querySelectorAll(".scores tr[data-row]")) {
    line.addEventListener("click", () => report.details.open(report.data.rows[Number(line.dataset.row)]));
  }
});
