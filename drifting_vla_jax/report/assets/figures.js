// The page's figures: one slider over the steps of all of them.
"use strict";
(() => {
  const slider = document.getElementById("figure-step");
  if (!slider) return;
  const figures = JSON.parse(document.getElementById("charts").textContent).figures;
  const numbers = (sources) => Object.keys(sources).map(Number).sort((a, b) => a - b);
  const steps = [...new Set(figures.flatMap((figure) => figure.runs.flatMap(numbers)))].sort((a, b) => a - b);
  const at = document.getElementById("figure-at");

  // Each picture is that of its last step at or before the slider's, or else of its first.
  function show() {
    const wanted = steps[slider.value];
    at.textContent = wanted.toLocaleString("en");
    for (const figure of document.querySelectorAll("[data-figure]")) {
      for (const image of figure.querySelectorAll("img")) {
        const sources = figures[figure.dataset.figure].runs[image.dataset.run];
        const own = numbers(sources);
        const step = own.filter((s) => s <= wanted).pop() ?? own[0];
        if (image.dataset.step === String(step)) continue;
        image.src = sources[step];
        image.dataset.step = step;
        image.parentElement.querySelector(".at").textContent = "step " + step.toLocaleString("en");
      }
    }
  }

  slider.max = steps.length - 1;
  slider.value = steps.length - 1;
  slider.disabled = steps.length < 2;
  slider.oninput = show;
  show();
})();
