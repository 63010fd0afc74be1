"use strict";
// What all sections share: data, numbers, elements, the theme. Strings of runs become text nodes.
const report = {
  data: null,
  rows: [],        // those that the filters leave
  listeners: [],   // called whenever rows or the theme change: f({rows, theme})

  async start() {
    const { textContent, dataset } = document.getElementById("data");
    this.data = dataset.encoding === "gzip" ? await this.unpacked(textContent) : JSON.parse(textContent);
    const { keys, rows } = this.data.rows;
    this.data.rows = rows.map((values) => Object.fromEntries(keys.map((key, at) => [key, values[at]])));
    this.rows = this.data.rows;
    this.sections = this.data.sections;
    report.theme.start();
    for (const begin of report.beginnings) begin();
    report.tell({ rows: true, theme: true });
    report.details.openFromAddress();
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  },
  failed(error) {
    document.querySelector("main").prepend(this.element("p", { class: "note" },
      `The charts, the table and the runs cannot be shown (${error}); answer.md and answer.csv beside this file have every row.`));
    throw error;
  },
  beginnings: [],  // a section's own set-up

  async unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  },

  // A run in full, with what runs of its part have in common; undefined for what has no record.
  async run(name) {
    const { runs } = this.data;
    let part = runs;
    if (runs.parts) {
      const at = Object.hasOwn(runs.at, name) ? runs.at[name] : undefined;
      if (at === undefined) return undefined;
      if (typeof runs.parts[at] === "string") runs.parts[at] = await this.unpacked(runs.parts[at]);
      part = runs.parts[at];
    }
    const run = part.runs.find((one) => one.run === name);
    return run && { ...run, part };
  },

  tell(what) { for (const listener of this.listeners) listener(what); },

  // An element with attributes and children; a string child is text, never markup.
  element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  },

  number(value, digits, signed = false) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size >= 1e5) return value.toExponential(2);
    const shown = size >= 1000 ? 0 : digits;
    const text = value.toLocaleString("en", {
      minimumFractionDigits: shown, maximumFractionDigits: shown,
    });
    return signed && value > 0 ? `+${text}` : text;
  },

  // The 95% interval of a row's figure, where it has one.
  interval(row, column) {
    const [low, high] = ["_low", "_high"].map((end) => row[`${column.key}${end}`]);
    if ([low, high].some((bound) => bound === null || bound === undefined)) return "";
    const shown = (bound) => this.number(bound * column.factor, column.digits, column.signed);
    return ` [${shown(low)}, ${shown(high)}]`;
  },
};

report.theme = {
  start() {
    const system = matchMedia("(prefers-color-scheme: dark)");
    this.dark = () => {
      const chosen = document.documentElement.dataset.theme;
      return chosen ? chosen === "dark" : system.matches;
    };
    system.addEventListener("change", () => report.tell({ theme: true }));
    document.getElementById("theme").addEventListener("click", () => {
      document.documentElement.dataset.theme = this.dark() ? "light" : "dark";
      report.tell({ theme: true });
    });
  },
  colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); },
  // Vega's configuration in the page's colours.
  chart() {
    const [ink, muted, line] = ["ink", "muted", "line"].map(this.colour);
    return {
      background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
      axisQuantitative: { labelOverlap: "greedy", labelSeparation: 8 },
      axis: { labelColor: muted, titleColor: muted, gridColor: line, domainColor: line,
              tickColor: line, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 12 },
      legend: { labelColor: ink, titleColor: muted, titleFontWeight: "normal", orient: "bottom",
                columns: innerWidth < 640 ? 2 : 4, labelLimit: 160, symbolOpacity: 1 },
      text: { color: ink },
    };
  },
};
