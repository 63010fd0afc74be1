"use strict";
// One run in full, in a dialog with an address of its own (#run=…).
report.details = {
  // A row of several draws opens with its first run; its others are a click away.
  async open(row, name = row.run) {
    const dialog = document.getElementById("details");
    const asked = (this.asked = (this.asked || 0) + 1);
    const run = await report.run(name);
    if (asked !== this.asked) return;  // another was opened meanwhile
    dialog.replaceChildren(...this.content(row, name, run));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    if (name) history.replaceState(null, "", `#run=${encodeURIComponent(name)}`);
  },

  openFromAddress() {
    document.getElementById("details").addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
    const wanted = /^#run=(.+)$/.exec(location.hash);
    const name = wanted && decodeURIComponent(wanted[1]);
    const row = wanted && report.data.rows.find((r) => r.run === name || (r.runs || "").split(" ").includes(name));
    if (row) this.open(row, name);
  },

  content(row, name, run) {
    const { element } = report;
    const close = () => document.getElementById("details").close();
    const head = element("div", { class: "head" },
      element("div", {}, element("h3", {}, row.recipe),
        element("div", { class: "muted" }, [row.model, row.engine, name].filter(Boolean).join(" · "))),
      element("button", { type: "button", "aria-label": "Close", onclick: close }, "✕"));
    const body = element("div", { class: "body" });
    body.append(element("p", { class: "chips" }, element("span", { class: `chip ${row.status}` }, row.status),
      row.best_tradeoff ? element("span", { class: "chip" }, "★ Pareto-optimal") : null,
      run && run.seconds !== null ? element("span", { class: "chip" }, `${report.number(run.seconds, 1)} s`) : null,
      run ? element("span", { class: "chip" }, run.started) : null));
    if (row.reason) body.append(element("pre", {}, row.reason));
    if (row.runs) {
      body.append(element("p", { class: "runs" }, row.seeds > 1 ? `${row.seeds} seeds; results are over all of them, the details below are of one: ` : "one checkpoint for all seeds: ",
        ...row.runs.split(" ").map((other) => element("button", { type: "button", "aria-pressed": String(other === name), onclick: () => this.open(row, other) }, other))));
    }
    this.part(body, "Results", this.figures(row));
    this.part(body, "Checkpoint", [["path", row.checkpoint], ["key", row.checkpoint_key], ["serve with", row.serve]]
      .filter(([, value]) => value));
    if (run) this.ofRun(body, run);
    else body.append(element("p", { class: "muted" }, "The unquantized model, measured beside the runs it is compared with."));
    return [head, body];
  },

  figures(row) {
    return ((report.sections.table || {}).columns || [])
      .filter((column) => row[column.key] !== null && row[column.key] !== undefined)
      .map((column) => [column.title, `${report.number(row[column.key] * column.factor, column.digits, column.signed)} ${column.unit}${report.interval(row, column)}`]);
  },

  ofRun(body, run) {
    const { element } = report;
    const { keys, values } = run.part;
    if (values[run.warnings].length) {
      body.append(element("h3", {}, "Warnings"), ...values[run.warnings].map((text) => element("p", { class: "note" }, text)));
    }
    if (run.overrides.length) body.append(element("h3", {}, "Asked for"), element("pre", {}, `runner ${run.overrides.join(" ")}`));
    this.part(body, "Stages", run.stages.map((at) => values[at]).map((stage) => [
      `${stage.stage} (${stage.subject})`,
      `${stage.reused ? "reused" : `${report.number(stage.seconds, 1)} s`} · environment ${stage.environment}` +
      (stage.resources.peak_memory_bytes ? ` · resident peak ${report.number(stage.resources.peak_memory_bytes / 1e6, 0)} MB` : "") +
      ` · ${this.list(values[stage.versions])} · key ${stage.key}`,
    ]));
    this.part(body, "Configuration", keys
      .map((key, at) => [key, values[run.config[at]]])
      .filter(([, value]) => value !== null)
      .map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]));
    this.part(body, "Host", Object.entries(values[run.host]).map(([key, value]) => [key, JSON.stringify(value)]));
    this.part(body, "Versions", Object.entries(values[run.versions]));
    const log = values[run.log];
    if (log.length) body.append(element("h3", {}, "Log's tail"), element("pre", {}, log.join("\n")));
  },

  list(versions) { return Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", "); },

  part(body, title, pairs) {
    if (!pairs.length) return;
    const { element } = report;
    body.append(element("h3", {}, title), element("table", {}, element("tbody", {},
      ...pairs.map(([name, value]) => element("tr", {}, element("td", {}, name), element("td", {}, String(value)))))));
  },
};
