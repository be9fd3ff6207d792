// Draws the Vega-Lite specs of a page. Its tables show the same numbers without scripts.
"use strict";

// A rectangle in a chart fills in the form of its bounds, which counts the documents.
function brush(view) {
  const form = document.querySelector("form[data-brush]");
  if (!form || !("brush_tuple" in view.getState({ signals: () => true }).signals)) return;
  // The rectangle is for a mouse; the form is the way of a keyboard.
  for (const part of document.querySelectorAll("[class*=brush_brush]")) {
    part.setAttribute("aria-hidden", "true");
  }
  let waiting;
  view.addSignalListener("brush", (name, { x = [], y = [] }) => {
    const bounds = { from: x[0], to: x[1], low: y[0], high: y[1] };
    for (const [field, bound] of Object.entries(bounds)) {
      form.elements[field].value = bound === undefined ? "" : Number(bound.toPrecision(4));
    }
    clearTimeout(waiting);
    waiting = setTimeout(() => form.requestSubmit(), 300);
  });
}

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
    }).then(({ view }) => brush(view)).catch((error) => {
      target.textContent = `This chart cannot be drawn: ${error.message}`;
    });
  }
}

drawCharts(document);
// A part of the page that replaces itself has new charts.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id) drawCharts(document.getElementById(event.detail.target.id));
});
