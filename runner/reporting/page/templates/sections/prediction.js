"use strict";
report.listeners.push((what) => {
  if (!what.theme) return;
  const content = report.sections.prediction;
  const spec = structuredClone(content.spec);
  spec.data = { name: "points", values: content.points };
  spec.autosize = { type: "fit-x", contains: "padding" };
  vegaEmbed(document.getElementById("prediction-plot"), spec, { actions: false, renderer: "canvas",
    ast: true, config: report.theme.chart(), tooltip: { theme: "custom" } });
});
