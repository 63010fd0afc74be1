"use strict";
// What all sections share: data, numbers, elements, the theme. Strings of runs become text nodes.
const report = {
  data: JSON.parse(document.getElementById("data").textContent),
  rows: [],        // those that the filters leave
  listeners: [],   // called whenever rows or the theme change: f({rows, theme})

  start() {
    this.rows = this.data.rows;
    this.sections = this.data.sections;
    this.byRun = new Map(this.data.runs.runs.map((run) => [run.run, run]));
    report.theme.start();
    for (const begin of report.beginnings) begin();
    report.tell({ rows: true, theme: true });
    report.details.openFromAddress();
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  },
  beginnings: [],  // a section's own set-up
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
