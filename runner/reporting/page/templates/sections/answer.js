"use strict";
report.beginnings.push(() => {
  const buttons = [...document.querySelectorAll("#tolerance button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      for (const cards of document.querySelectorAll(".cards")) {
        cards.style.display = cards.dataset.tolerance === button.dataset.tolerance ? "" : "none";
        cards.hidden = cards.dataset.tolerance !== button.dataset.tolerance;
      }
    });
  }
  for (const card of document.querySelectorAll(".card[data-row]")) {
    card.addEventListener("click", () => report.details.open(report.data.rows[Number(card.dataset.row)]));
  }
});
