"use strict";
report.listeners.push((what) => {
  const place = document.getElementById("serving-plot");
  if (!what.theme || !place) return;
  const content = report.sections.serving;
  const spec = structuredClone(content.spec);
  spec.data = { name: "points", values: content.points };
  spec.autosize = { type: "fit-x", contains: "padding" };
  vegaEmbed(place, spec, { actions: false, renderer: "canvas",
    ast: true, config: report.theme.chart(), tooltip: { theme: "custom" } });
});
