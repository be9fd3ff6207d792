// Draws the Vega-Lite specs of a page. Its tables show the same numbers without scripts.
"use strict";

for (const figure of document.querySelectorAll("[data-chart]")) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
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
