// What the pages cannot say in HTML. Without it everything works by plain links and forms.
"use strict";

// Keys of the form of a label: a digit is a score in tenths, `w` and `r` quote the selected words.
const label = (event) => {
  const form = document.querySelector("form.label");
  if (!form) return false;
  const words = String(getSelection()).trim().replace(/\s*\n[^]*/, "");
  const verdict = { w: "wrong", r: "right" }[event.key];
  if (/^[0-9]$/.test(event.key)) {
    form.elements.score.value = event.key === "0" ? "1" : `0.${event.key}`;
  } else if (verdict && words) {
    const lines = form.querySelector("[data-spans]");
    lines.value += `${lines.value && "\n"}${verdict}: ${words}`;
  } else {
    return false;
  }
  event.preventDefault();
  return true;
};

const field = (target) => target.closest("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.form) {
    event.target.form.requestSubmit();
  }
  // The editor of SQL is in a shadow root, where `event.target` does not reach.
  if (event.ctrlKey || event.metaKey || event.altKey || field(event.composedPath()[0])) return;
  const selector = {
    "/": "[data-key='/']",
    s: "[data-key=s]",
    "[": "a[rel=prev]",
    k: "a[rel=prev]",
    "]": "a[rel=next]",
    j: "a[rel=next]",
    e: "[data-key=e]",
  }[event.key];
  if (label(event)) return;
  const element = selector && document.querySelector(selector);
  if (!element) return;
  event.preventDefault();
  if (element.matches("a")) element.click();
  else element.focus();
});

// On a phone the strip of pages is wider than the screen.
const here = document.querySelector("nav.pages [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - 60;

// Forms of many fields leave out what is empty, so that an address can be read. An empty text is a
// value of a parameter of SQL.
document.addEventListener("formdata", (event) => {
  if (!event.target.matches("form[data-lean]")) return;
  for (const [name, value] of [...event.formData.entries()]) {
    if (value === "" && !name.startsWith("p.")) event.formData.delete(name);
  }
});

// A table that is wider than the screen is scrolled by keyboard.
function reachTables() {
  for (const part of document.querySelectorAll(".scroll:not([tabindex])")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  }
}
addEventListener("load", reachTables);
addEventListener("resize", reachTables);
document.addEventListener("htmx:afterSettle", reachTables);

// A slider and the number next to it have one value; only the number is sent.
for (const slider of document.querySelectorAll("input[type=range][data-of]")) {
  slider.hidden = false;
  const number = slider.form.elements[slider.dataset.of];
  slider.addEventListener("input", () => {
    number.value = slider.value;
  });
  number.addEventListener("input", () => {
    slider.value = number.value || 0;
  });
}

// A choice is sent at once, words when they have stood for a moment.
let waiting;
document.addEventListener("change", (event) => {
  if (event.target.matches("form[hx-get] select")) event.target.form.requestSubmit();
});
document.addEventListener("input", (event) => {
  if (!event.target.matches("form[hx-get] input[type=search]")) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => event.target.form.requestSubmit(), 450);
});

// An error is a page of its own.
document.addEventListener("htmx:responseError", (event) => {
  location.assign(event.detail.pathInfo.finalRequestPath);
});

// Tells a screen reader what came; the part that was exchanged cannot do that itself.
document.addEventListener("htmx:afterSettle", () => {
  const status = document.querySelector("[data-status]");
  const region = document.getElementById("status");
  if (status && region && region.textContent !== status.dataset.status) {
    region.textContent = status.dataset.status;
  }
});
