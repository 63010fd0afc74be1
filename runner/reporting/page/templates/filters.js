"use strict";
// Filters by config group. They lie in the bar of section "tradeoffs", or of the table without it.
report.filters = {
  chosen: {},  // group -> Set of values; absent means all
  search: "",
  stars: false,

  passes(row) {
    if (this.stars && !row.best_tradeoff) return false;
    if (this.search && !`${row.recipe} ${row.engine} ${row.model} ${row.run || ""}`.toLowerCase().includes(this.search)) return false;
    return Object.entries(this.chosen).every(([group, values]) => values.has(String(row[group])));
  },

  apply() {
    report.rows = report.data.rows.filter((row) => this.passes(row));
    document.getElementById("shown").textContent =
      `${report.rows.length} of ${report.data.rows.length}`;
    for (const [group, summary] of this.summaries) {
      const values = this.chosen[group];
      summary.classList.toggle("on", Boolean(values));
      summary.textContent = report.data.groups[group] + (values ? `: ${values.size}` : "") + " ▾";
    }
    report.tell({ rows: true });
  },

  reset() {
    this.chosen = {};
    this.search = "";
    this.stars = false;
    const bar = document.getElementById("filters");
    for (const box of bar.querySelectorAll("input[type=checkbox]")) box.checked = false;
    bar.querySelector("input[type=search]").value = "";
    this.apply();
  },

  menu(group, title) {
    const { element } = report;
    const counts = new Map();
    for (const row of report.data.rows) {
      const value = String(row[group]);
      counts.set(value, (counts.get(value) || 0) + 1);
    }
    const toggle = (value, on) => {
      const values = this.chosen[group] || new Set();
      if (on) values.add(value); else values.delete(value);
      if (values.size) this.chosen[group] = values; else delete this.chosen[group];
      this.apply();
    };
    const labels = [...counts].sort().map(([value, count]) => element("label", {},
      element("input", { type: "checkbox", value, onchange: (event) => toggle(value, event.target.checked) }),
      value, element("span", { class: "count" }, String(count))));
    const summary = element("summary", {}, `${title} ▾`);
    this.summaries.set(group, summary);
    return element("details", { "data-group": group }, summary, element("div", { class: "menu panel" }, ...labels));
  },

  start() {
    const { element } = report;
    const bar = document.getElementById("filters");
    if (!bar) return;
    this.summaries = new Map();
    const star = element("input", { type: "checkbox", id: "stars", onchange: (event) => { this.stars = event.target.checked; this.apply(); } });
    bar.append(
      element("input", { type: "search", placeholder: "Search", "aria-label": "Search", size: 12,
        oninput: (event) => { this.search = event.target.value.trim().toLowerCase(); this.apply(); } }),
      ...Object.entries(report.data.groups).map(([group, title]) => this.menu(group, title)),
      element("label", { class: "row", style: "gap:.35rem" }, star, "★ only"),
      element("button", { type: "button", id: "reset", onclick: () => this.reset() }, "Reset"),
      element("span", { class: "muted", id: "shown", role: "status", style: "margin-left:auto" }),
    );
    // One menu at a time, and a click elsewhere closes it.
    document.addEventListener("click", (event) => {
      for (const open of bar.querySelectorAll("details[open]")) if (!open.contains(event.target)) open.open = false;
    });
    document.getElementById("shown").textContent = `${report.rows.length} of ${report.data.rows.length}`;
  },
};
report.beginnings.push(() => report.filters.start());
