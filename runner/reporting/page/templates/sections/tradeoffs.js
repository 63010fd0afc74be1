"use strict";
// Charts follow the filters; axes turn logarithmic where what is shown spans a factor of ten.
report.charts = {
  mostLines: 24,
  mostIntervals: 40,
  longName: 40,
  views: [],

  points() {
    const quality = this.quality();
    const name = this.namer();
    return report.rows.filter((row) => row.status === "ok").map((row) => ({
      id: row.id, recipe: row.recipe, name: name(row), engine: row.engine, model: row.model,
      text: row.text, protocol: row.perplexity_protocol,
      quality: row[quality], low: row[`${quality}_low`], high: row[`${quality}_high`],
      size: row.checkpoint_bytes === null ? null : row.checkpoint_bytes / 1e6,
      speed: row.decode_tokens_per_second, group: String(row[this.colour()]),
      baseline: row.is_baseline, star: row.best_tradeoff, change: this.change(row),
    }));
  },
  // What tells a row from the others: parts of its recipe that all have are left out.
  namer() {
    const parts = report.data.rows.filter((row) => row.status === "ok" && !row.is_baseline).map((row) => row.recipe.split(","));
    const shared = (part) => parts.length > 1 && parts.every((own) => own.includes(part));
    const places = ["model", "text", "engine"].filter((group) => group in report.data.groups);
    return (row) => [row.recipe.split(",").filter((part, at) => !at || !shared(part)).join(","),
      ...places.map((place) => row[place])].join("  ");
  },
  change(row) {
    const [middle, low, high] = ["", "_low", "_high"].map((end) => row[`perplexity_delta${end}`]);
    const shown = (value) => report.number(value, Math.abs(middle) < 1 ? 3 : 2, true);
    return middle === null ? "-" : low === null ? shown(middle) : `${shown(middle)} [${shown(low)}, ${shown(high)}]`;
  },
  data: {
    size: (points) => points,
    speed: (points) => points,
    interval(points) {
      const rows = report.data.rows;
      const all = points.map((point) => ({ ...point, quality: rows[point.id].perplexity_delta,
        low: rows[point.id].perplexity_delta_low, high: rows[point.id].perplexity_delta_high }))
        .filter((point) => point.quality !== null).sort((a, b) => a.quality - b.quality);
      report.charts.note("interval", all.length, report.charts.mostIntervals, "best");
      return all.slice(0, report.charts.mostIntervals);
    },
    batch(points) {
      const rows = points.map((point) => report.data.rows[point.id]).filter((row) => (row.batches || []).length);
      const fastest = (row) => Math.max(...row.batches.map((batch) => batch.speed));
      rows.sort((a, b) => fastest(b) - fastest(a));
      report.charts.note("batch", rows.length, report.charts.mostLines, "fastest");
      return rows.slice(0, report.charts.mostLines).flatMap((row) => row.batches.map((batch) => ({
        ...batch, id: row.id, recipe: row.recipe, engine: row.engine, line: String(row.id),
        group: String(row[report.charts.colour()]), baseline: row.is_baseline,
        low: batch.speed - batch.sd, high: batch.speed + batch.sd })));
    },
  },
  note(name, count, most, which) {
    document.getElementById(`note-${name}`).textContent = count > most ? `the ${most} ${which} of ${count}` : "";
  },
  colour() { return document.getElementById("colour").value; },
  quality() {
    const chooser = document.getElementById("quality");
    return chooser ? chooser.value : report.sections.tradeoffs.quality;
  },

  finish(chart, points, place) {
    const spec = structuredClone(chart.spec);
    const titles = { GROUP: report.data.all_groups[this.colour()],
      QUALITY: report.sections.tradeoffs.qualities[this.quality()] };
    const name = (node) => {
      if (node && typeof node === "object") {
        if (titles[node.title]) node.title = titles[node.title];
        Object.values(node).forEach(name);
      }
    };
    name(spec);
    // Colours and shapes keep their meaning while filters change.
    const groups = [...new Set(report.data.rows.filter((row) => row.status === "ok").map((row) => String(row[this.colour()])))].sort();
    const shown = new Set(points.map((point) => point.group));
    for (const layer of spec.layer) {
      for (const channel of ["color", "shape"]) {
        const encoding = layer.encoding && layer.encoding[channel];
        if (!encoding || !encoding.scale) continue;
        const range = encoding.scale.range;
        // Those of a method are the same in every report.
        const marks = this.colour() === "method" ? report.sections.tradeoffs.marks : {};
        const own = (group, at) => (Object.hasOwn(marks, group) ? marks[group][channel] : range[at % range.length]);
        encoding.scale = { domain: groups.filter((group) => shown.has(group)),
          range: groups.map(own).filter((_, at) => shown.has(groups[at])) };
      }
    }
    for (const axis of ["x", "y"]) {
      const encoding = spec.encoding[axis];
      if (!encoding.scale || encoding.scale.type !== "linear") continue;
      const values = points.map((point) => point[encoding.field]).filter((value) => value !== null && value !== undefined);
      if (values.length && Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 10) {
        encoding.scale = { type: "log", nice: false, padding: 10 };
      }
    }
    if (spec.height.step) {
      // A fixed height: what fits its width must not be asked to fit a height of steps.
      spec.height = 20 + spec.height.step * points.length;
      spec.encoding.y.axis.labelLimit = innerWidth < 640 ? 130 : 0.45 * place.clientWidth;
    }
    spec.data = { name: "points", values: points };
    spec.autosize = { type: "fit-x", contains: "padding" };
    return spec;
  },

  async draw() {
    const drawing = (this.drawing = (this.drawing || 0) + 1);
    const points = this.points();
    for (const chart of report.sections.tradeoffs.charts) {
      const place = document.getElementById(`chart-${chart.name}`);
      const own = this.data[chart.name](points);
      if (!own.length) {
        place.replaceChildren(report.element("div", { class: "empty" }, "nothing to show"));
        continue;
      }
      // Long names need a line of their own.
      const long = chart.spec.height.step && own.some((point) => point.name.length > this.longName);
      place.closest(".chart").classList.toggle("long", Boolean(long));
      const result = await vegaEmbed(place, this.finish(chart, own, place), {
        actions: false, renderer: "canvas", ast: true, config: report.theme.chart(),
        tooltip: { theme: "custom" },
      });
      if (drawing !== this.drawing) { result.finalize(); return; }
      result.view.addEventListener("click", (_, item) => {
        const datum = item && item.datum && (item.datum.id !== undefined ? item.datum : item.datum.datum);
        if (datum && datum.id !== undefined) report.details.open(report.data.rows[datum.id]);
      });
      const before = this.views.findIndex((view) => view.name === chart.name);
      if (before >= 0) this.views.splice(before, 1)[0].result.finalize();
      this.views.push({ name: chart.name, result });
    }
    document.documentElement.dataset.drawn = String(drawing);
  },

  start() {
    const chooser = document.getElementById("colour");
    const usable = Object.keys(report.data.groups).filter((group) => group !== "status");
    for (const group of usable.length ? usable : ["method"]) {
      chooser.append(report.element("option", { value: group }, report.data.all_groups[group]));
    }
    if (usable.includes("method")) chooser.value = "method";
    for (const control of document.querySelectorAll("#colour, #quality")) control.addEventListener("change", () => this.draw());
    report.listeners.push(() => { clearTimeout(this.later); this.later = setTimeout(() => this.draw(), 30); });
  },
};
report.beginnings.push(() => report.charts.start());
