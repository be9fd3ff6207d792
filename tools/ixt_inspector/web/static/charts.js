// Draws the Vega-Lite specs of a page. Its tables show the same numbers without scripts.
"use strict";

function drawCharts(part) {
  for (const figure of part.querySelectorAll("[data-chart]")) {
    const spec = JSON.parse(figure.dataset.chart);
    const target = document.createElement("div");
    figure.append(target);
    vegaEmbed(target, spec, {
      mode: "vega-lite",
      renderer: "svg",
      actions: false,
      // The policy of the page forbids code from text and style elements.
      ast: true,
      expr: vega.expressionInterpreter,
      defaultStyle: false,
      tooltip: false,
      loader: { target: "_self" },
    }).catch((error) => {
      target.textContent = `This chart cannot be drawn: ${error.message}`;
    });
  }
}

drawCharts(document);
// A part of the page that replaces itself has new charts.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id) drawCharts(document.getElementById(event.detail.target.id));
});
