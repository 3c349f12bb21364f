// The page's curves: every <figure data-chart="group.number"> becomes a uPlot, drawn again when the theme changes.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("charts").textContent);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (v) => {
    if (v == null) return "-";
    const size = Math.abs(v);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return v.toExponential(2).replace("e+", "e");
    return String(Number(v.toPrecision(4)));
  };
  const steps = (v) => (v == null ? "-" : v.toLocaleString("en"));
  const tick = (v) => (v >= 1e4 && v % 1e3 === 0 ? v / 1e3 + "k" : steps(v));

  // One part per metric: the colour is the run's. Several: the colour is the part's, the second run is dashed.
  function look(chart, line) {
    const parts = new Set(chart.lines.map((l) => l.part)).size;
    if (chart.band) return { stroke: style("--run" + line.run), width: line.part ? 0 : 2 };
    return { stroke: style(parts > 1 ? "--c" + (line.part % 7) : "--run" + line.run), width: 1.5, dash: parts > 1 && line.run ? [6, 4] : [] };
  }

  // A flat line sits in the middle of its plot, a flat share between none and all.
  function range(chart, low, high) {
    if (low == null) return [0, 1];
    if (low !== high) return uPlot.rangeNum(low, high, 0.1, true);
    if (chart.unit === "share") return [0, 1];
    return [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
  }

  // Lines have values at steps of their own: the pointer reads the nearest of each.
  function nearest(u, series, index) {
    const values = u.data[series];
    for (let d = 0; d < values.length; d++) {
      if (values[index - d] != null) return index - d;
      if (values[index + d] != null) return index + d;
    }
    return index;
  }

  // Without a pointer the legend shows where each line ends.
  function rest(u) {
    if (!(u.cursor.left >= 0)) u.setLegend({ idxs: u.data.map((_, i) => nearest(u, i, u.data[0].length - 1)) }, false);
  }

  // Steps worth a look: a line from top to bottom with a flag.
  function mark(u, steps) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left - 8, bbox.top - 8, bbox.width + 16, bbox.height + 16);
    ctx.clip();
    ctx.strokeStyle = ctx.fillStyle = style("--bad");
    ctx.lineWidth = devicePixelRatio;
    for (const step of steps) {
      const x = Math.round(u.valToPos(step, "x", true)), size = 6 * devicePixelRatio;
      ctx.setLineDash([4, 3]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.moveTo(x - size, bbox.top - 1);
      ctx.lineTo(x + size, bbox.top - 1);
      ctx.lineTo(x, bbox.top + size);
      ctx.fill();
    }
    ctx.restore();
  }

  function options(chart, log, width) {
    const grid = { stroke: style("--line"), width: 1 };
    const axis = { stroke: style("--soft"), grid, ticks: { ...grid, size: 4 }, font: "11px system-ui, sans-serif" };
    const bands = chart.band
      ? chart.lines.flatMap((line, i) => (line.part === 2 ? [{ series: [i + 1, i], fill: style("--run" + line.run) + "33" }] : []))
      : [];
    return {
      width,
      height: 190,
      bands,
      cursor: { sync: { key: chart.sync || "steps" }, drag: { x: true, y: false }, points: { size: 6 }, dataIdx: (u, series, index) => (series ? nearest(u, series, index) : index) },
      hooks: { ready: [rest], setCursor: [rest], draw: [(u) => mark(u, chart.marks || [])] },
      scales: {
        x: { time: false },
        y: chart.band ? { range: [0, 100] } : log ? { distr: 3 } : { range: (u, low, high) => range(chart, low, high) },
      },
      axes: [
        { ...axis, size: 26, values: (u, at) => at.map(tick) },
        { ...axis, size: 58, values: (u, at) => at.map((v) => (v == null ? "" : short(v))) },
      ],
      series: [
        { label: chart.x || "step", value: (u, v) => steps(v) },
        ...chart.lines.map((line) => ({
          label: line.label,
          ...look(chart, line),
          spanGaps: true,
          points: { show: !(chart.band && line.part) && line.values.filter((v) => v != null).length <= 40, size: 5 },
          value: (u, v) => short(v),
        })),
      ],
    };
  }

  const figures = [];
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const [group, number] = figure.dataset.chart.split(".");
    const chart = group === "over" ? data.over : data.groups[group].charts[number];
    const caption = document.createElement("figcaption");
    const name = document.createElement("span");
    name.textContent = chart.title;
    if (chart.unit) {
      const unit = document.createElement("small");
      unit.textContent = " " + chart.unit;
      name.append(unit);
    }
    caption.append(name);
    const place = document.createElement("div");
    figure.append(caption, place);
    let log = chart.log, plot = null;
    const positive = chart.lines.every((line) => line.values.every((v) => v == null || v > 0));
    const draw = () => {
      const zoom = plot && { min: plot.scales.x.min, max: plot.scales.x.max };
      if (plot) plot.destroy();
      plot = new uPlot(options(chart, log, place.clientWidth), [chart.steps, ...chart.lines.map((line) => line.values)], place);
      if (zoom && zoom.min != null) plot.setScale("x", zoom);
    };
    if (positive && !chart.band && chart.log !== null) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "log";
      button.title = "logarithmic axis";
      button.setAttribute("aria-pressed", log);
      button.onclick = () => {
        log = !log;
        button.setAttribute("aria-pressed", log);
        draw();
      };
      caption.append(button);
    }
    draw();
    new ResizeObserver(() => place.clientWidth && plot.setSize({ width: place.clientWidth, height: 190 })).observe(place);
    figures.push(draw);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => figures.forEach((draw) => draw()));

  const box = document.getElementById("all-keys"), table = document.getElementById("config-table");
  if (!table) return;
  const show = () => table.classList.toggle("all", box.checked);
  if (!table.querySelector("tr:not(.same) td")) box.checked = true; // nothing differs, or base.py is not known
  box.onchange = show;
  show();
})();
