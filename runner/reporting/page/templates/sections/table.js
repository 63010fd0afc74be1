"use strict";
// The table: sorts by any column, shows a hundred rows and more on request.
report.table = {
  step: 100,
  shown: 100,
  by: null,
  down: false,

  columns() {
    const several = (group) => group in report.data.groups;
    const text = [{ key: "recipe", title: "Recipe", text: true }];
    if (several("model")) text.push({ key: "model", title: "Model", text: true });
    if (several("text")) text.push({ key: "text", title: "Evaluated on", text: true });
    text.push({ key: "engine", title: "Engine", text: true });
    if (several("hardware")) text.push({ key: "hardware", title: "Hardware", text: true });
    if (several("sweep")) text.push({ key: "sweep", title: "Sweep", text: true });
    return [...text, ...report.sections.table.columns];
  },

  sorted() {
    if (!this.by) {
      const ok = (row) => row.status === "ok";
      return [...report.rows.filter(ok), ...report.rows.filter((row) => !ok(row))];
    }
    const { key, text } = this.by;
    const sign = this.down ? -1 : 1;
    const gone = (value) => value === null || value === undefined;
    return [...report.rows].sort((a, b) => {
      // What is missing comes last either way.
      if (gone(a[key]) || gone(b[key])) return gone(a[key]) - gone(b[key]) || a.id - b.id;
      return sign * (text ? String(a[key]).localeCompare(String(b[key]), "en", { numeric: true }) : a[key] - b[key]);
    });
  },

  sort(column) {
    // The first click puts the better ones on top.
    this.down = this.by && this.by.key === column.key ? !this.down : column.better === "high";
    this.by = column;
    this.draw();
  },

  head() {
    const { element } = report;
    const cells = this.columns().map((column) => {
      const sorted = this.by && this.by.key === column.key;
      const arrow = sorted ? (this.down ? " ↓" : " ↑") : "";
      return element("th", { scope: "col", class: column.text ? "text" : null, "data-key": column.key,
        "aria-sort": sorted ? (this.down ? "descending" : "ascending") : null },
        element("button", { type: "button", onclick: () => this.sort(column) }, column.title,
          column.unit ? element("span", { class: "unit" }, ` ${column.unit}`) : "", arrow));
    });
    document.querySelector("#runs thead tr").replaceChildren(...cells);
  },

  cell(row, column) {
    const { element } = report;
    if (column.key === "recipe") {
      return element("td", { class: "text" },
        element("span", { class: "star" }, row.best_tradeoff ? "★ " : ""), row.recipe,
        row.status === "ok" ? "" : element("span", { class: `chip ${row.status}`, style: "margin-left:.5rem" }, row.status));
    }
    if (column.text) return element("td", { class: "text" }, String(row[column.key] ?? "–"));
    const value = row[column.key];
    const scaled = value === null || value === undefined ? null : value * column.factor;
    const cell = element("td", {}, report.number(scaled, column.digits, column.signed));
    if (column.key === "decode_ratio" && row.decode_within_noise && !row.is_baseline) cell.prepend("~");
    if (scaled !== null && row.decode_of_dense && column.key.startsWith("decode_")) cell.append("†");
    const interval = scaled === null ? "" : report.interval(row, column);
    if (interval) cell.title = `95%${interval}`;
    const most = this.most.get(column.key);
    if (scaled !== null && most > 0) {
      cell.className = "bar";
      cell.style.backgroundSize = `${Math.max(0, (100 * value) / most).toFixed(1)}% 3px`;
      cell.style.backgroundPosition = "left bottom";
    }
    return cell;
  },

  draw() {
    const { element } = report;
    const columns = this.columns();
    this.most = new Map(["checkpoint_bytes", "decode_tokens_per_second", "peak_memory_bytes"].map((key) =>
      [key, Math.max(0, ...report.data.rows.map((row) => row[key] || 0))]));
    const rows = this.sorted();
    const body = rows.slice(0, this.shown).map((row) => {
      const line = element("tr", { tabindex: 0, class: row.status === "ok" ? null : "off", "data-id": row.id,
        onclick: () => report.details.open(row),
        onkeydown: (event) => { if (event.key === "Enter") report.details.open(row); } },
        ...columns.map((column) => this.cell(row, column)));
      if (row.reason) line.title = row.reason;
      return line;
    });
    this.head();
    document.querySelector("#runs tbody").replaceChildren(...body);
    const left = rows.length - this.shown;
    const more = (count, label) => element("button", { type: "button", onclick: () => { this.shown += count; this.draw(); } }, label);
    document.querySelector("#runs .more").replaceChildren(...(left > 0
      ? [more(this.step, `Show ${Math.min(this.step, left)} more`), " ", more(left, `Show all ${rows.length}`)] : []));
  },
};
report.listeners.push((what) => { if (what.rows) { report.table.shown = report.table.step; report.table.draw(); } });
