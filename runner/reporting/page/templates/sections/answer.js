"use strict";
report.beginnings.push(() => {
  for (const button of document.querySelectorAll("#answer [data-row]")) {
    button.addEventListener("click", () => report.details.open(report.data.rows[Number(button.dataset.row)]));
  }
});
