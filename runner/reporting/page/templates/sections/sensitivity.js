"use strict";
report.listeners.push((what) => {
  if (!what.theme) return;
  report.sections.sensitivity.maps.forEach((map, at) => {
    const place = document.getElementById(`sensitivity-${at}`);
    const layers = new Set(map.cells.map((cell) => cell.layer)).size;
    const spec = structuredClone(report.sections.sensitivity.spec);
    const cells = map.cells.filter((cell) => cell.kl > 0);
    spec.data = { name: "points", values: cells };
    spec.spec.width = { step: Math.max(8, Math.min(26, (place.clientWidth - 330) / layers)) };
    vegaEmbed(place, spec, { actions: false, renderer: "canvas", ast: true,
      config: report.theme.chart(), tooltip: { theme: "custom" } });
  });
});
