// Keys of the rating page, large images, and nothing else: every page works without this file.
"use strict";

(() => {
  const sheet = document.getElementById("sheet");
  const undo = document.getElementById("undo");
  const zoom = document.getElementById("zoom");
  const links = [...document.querySelectorAll("a[data-zoom]")];
  const fields = sheet ? [...sheet.querySelectorAll("input.points")] : [];
  let shown = 0;
  let size = 1;

  function total() {
    const out = document.getElementById("total");
    if (!out) return;
    const points = fields.map((field) => (/^-?\d+$/.test(field.value.trim()) ? Number(field.value) : NaN));
    const sum = points.reduce((a, b) => a + b, 0);
    out.value = Number.isNaN(sum) ? "–" : `${sum} of ${out.dataset.possible}`;
  }

  function show(index) {
    shown = (index + links.length) % links.length;
    const title = links[shown].dataset.zoom;
    document.getElementById("zoom-title").textContent = title;
    const image = document.getElementById("zoom-image");
    image.src = links[shown].href;
    image.alt = `${title} camera`;
    resize(1);
    if (!zoom.open) zoom.showModal();
  }

  function resize(to) {
    size = Math.min(4, Math.max(1, to));
    document.getElementById("zoom-image").className = `size-${size}`;
  }

  const does = {
    previous: () => show(shown - 1),
    next: () => show(shown + 1),
    smaller: () => resize(size - 1),
    larger: () => resize(size + 1),
    close: () => zoom.close(),
  };
  const zoomKeys = { ArrowLeft: "previous", ArrowRight: "next", "-": "smaller", "+": "larger", "=": "larger" };

  if (zoom) {
    links.forEach((link, index) => link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      show(index);
    }));
    zoom.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-do]");
      if (button) does[button.dataset.do]();
    });
    zoom.addEventListener("keydown", (event) => {
      const name = zoomKeys[event.key];
      if (name && size > 1 && event.key.startsWith("Arrow")) return; // a large image is scrolled
      if (name) { event.preventDefault(); does[name](); }
    });
  }

  fields.forEach((field, index) => {
    field.addEventListener("input", total);
    field.addEventListener("focus", () => field.select());
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      const next = fields.slice(index + 1).find((one) => one.value.trim() === "");
      if (next) { event.preventDefault(); next.focus(); }
    });
  });

  if (sheet) {
    total();
    sheet.addEventListener("submit", () => { sheet.querySelector("button").disabled = true; });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || (zoom && zoom.open)) return;
    const inField = event.target.matches("textarea, select, input:not(.points)");
    if (inField) return;
    if (event.key === "u" && undo) {
      event.preventDefault();
      undo.requestSubmit();
    } else if (event.key === "z" && zoom && links.length) {
      event.preventDefault();
      show(0);
    } else if (/^\d$/.test(event.key) && fields.length && !event.target.matches("input")) {
      (fields.find((one) => one.value.trim() === "") || fields[0]).focus(); // the digit then lands in it
    }
  });
})();
