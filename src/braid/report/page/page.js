// Puts the page together from its data.

const axisNames = {step: "step", tokens: "tokens", stages: "tokens over all stages"};
const dashes = ["", "7 4", "2 3", "9 3 2 3", "12 5"];  // of validation sources; runs have colours

const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;
const view = {axis: "step", range: null, smoothing: 0.015, hidden: new Set(), charts: [],
              redraw() { for (const chart of this.charts) chart.draw(); syncControls(); }};

let tokensBefore = 0;
runs.forEach((run, i) => {
  run.colour = `var(--run${i % 8})`;
  run.dash = dashes[Math.floor(i / 8) % dashes.length];
  run.offset = tokensBefore;
  tokensBefore += run.tokens || 0;
});
const isChain = data.layout === "stages" || runs.some((run) => run.predecessor >= 0);
if (data.layout === "stages") view.axis = "stages";

// The x value of a step that has seen so many tokens.
function position(run, step, tokens) {
  if (view.axis === "step") return step;
  if (tokens === null) return null;
  return view.axis === "tokens" ? tokens : run.offset + tokens;
}

// The line of one column; null when the run lacks it. Rows without a value are left out: a column may share
// its rows with others.
function lineOf(i, series, key, extra = {}) {
  const run = runs[i], column = series.columns[key];
  if (!column) return null;
  const rows = column.mean.map((_, row) => row).filter((row) => column.mean[row] !== null);
  if (rows.length === 0) return null;
  const pick = (values) => values ? rows.map((row) => values[row]) : null;
  return {run: i, label: run.name, colour: run.colour, dash: run.dash, smooth: false,
          x: rows.map((row) => position(run, series.step[row], series.tokens[row])),
          y: pick(column.mean), low: pick(column.min), high: pick(column.max), ...extra};
}

function stepLines(key, smooth) {
  return () => runs.map((run, i) => lineOf(i, run.steps, key, {smooth})).filter(Boolean);
}

const sources = [...new Set(runs.flatMap((run) => run.validation.map((v) => v.source)))];
const hiddenSources = new Set();

function validationLines(key) {
  return () => runs.flatMap((run, i) => run.validation.filter((v) => !hiddenSources.has(v.source)).map((v) => {
    const at = sources.indexOf(v.source);
    return lineOf(i, v.series, key, {label: v.source ? `${run.name}, ${v.source}` : run.name,
                                     dash: sources.length > 1 ? dashes[at % dashes.length] : run.dash});
  })).filter(Boolean);
}

// Triangles at the spikes of a column, ticks on the axis at skipped steps.
function marksOf(key) {
  return () => runs.flatMap((run, i) => {
    const spikes = (run.spikes[key] || {marks: []}).marks.map(([step, tokens, value, height]) => ({
      run: i, colour: run.colour, kind: "spike", x: position(run, step, tokens), y: value,
      label: `${run.name}: spike at step ${whole(step)}: ${short(value, 5)}` +
        (height === null ? "" : `, ${short(height, 3)} standard deviations above the mean`)}));
    const skips = (run.skipped || {marks: []}).marks.map(([step, tokens]) => ({
      run: i, colour: run.colour, kind: "skip", x: position(run, step, tokens), y: null,
      label: `${run.name}: step ${whole(step)} was skipped`}));
    return [...spikes, ...skips];
  });
}

function addChart(into, options) {
  if (options.lines(view).length === 0) return null;
  const chart = new Chart(view, options);
  view.charts.push(chart);
  into.append(chart.figure);
  return chart;
}

// Keys that have no chart of their own, each as {label, lines}.
function furtherCurves() {
  const own = new Set(["loss", "gradient_norm", "learning_rate", "tokens_per_second", "validation_loss",
                       "validation_bits_per_byte"]);
  const found = new Map();
  const gather = (group, columns, lines) => {
    for (const key of Object.keys(columns)) {
      if (!own.has(key)) found.set(`${group}: ${key}`, {label: `${words(key)} (${group})`, lines: lines(key)});
    }
  };
  for (const run of runs) {
    gather("training", run.steps.columns, (key) => stepLines(key, false));
    for (const v of run.validation) gather("validation", v.series.columns, validationLines);
    gather("timing", run.timing.columns, (key) => () => runs.map((r, i) => lineOf(i, r.timing, key)).filter(Boolean));
  }
  const varies = ([, curve]) => curve.lines().some((line) => line.y.some((v) => v !== line.y[0]));
  const all = [...found];  // those with something to see come first
  return new Map([...all.filter(varies), ...all.filter((curve) => !varies(curve))]);
}

function chartsSection() {
  const grid = element("div", {class: "charts"});
  addChart(grid, {title: "Training loss", unit: "nats per token", lines: stepLines("loss", true), marks: marksOf("loss")});
  addChart(grid, {title: "Validation loss", unit: "nats per token", lines: validationLines("validation_loss")});
  addChart(grid, {title: "Validation bits per byte", unit: "bits per byte", lines: validationLines("validation_bits_per_byte")});
  addChart(grid, {title: "Gradient norm", unit: "L2, before clipping", log: true, lines: stepLines("gradient_norm", true),
                  marks: marksOf("gradient_norm")});
  addChart(grid, {title: "Learning rate", unit: "", lines: stepLines("learning_rate", false)});
  addChart(grid, {title: "Throughput", unit: "tokens per second, mean since the process began", robust: true,
                  lines: () => runs.map((run, i) => lineOf(i, run.timing, "tokens_per_second", {smooth: true})).filter(Boolean)});
  const further = furtherCurves();
  if (further.size > 0) {
    const select = element("select", {"aria-label": "What the chart shows"});
    for (const [id, curve] of further) select.append(element("option", {value: id}, curve.label));
    const chart = addChart(grid, {title: "Further values", unit: "", lines: () => further.get(select.value).lines()});
    if (chart) {
      chart.figure.querySelector("figcaption").insertBefore(select, chart.figure.querySelector("figcaption button"));
      select.addEventListener("change", () => chart.draw());
    }
  }
  const text = "Drag over a chart to look closer, double-click to see all again. Triangles are spikes, ticks on the axis " +
    "skipped steps. Where a point stands for several steps, the line is their mean and the faint strokes reach from the " +
    "least to the greatest; a point stands at the last of its steps.";
  return section("Curves", grid, note(text));
}

// A group of buttons of which one is pressed.
function choice(name, options, get, set) {
  const buttons = options.map(([value, label]) => {
    const button = element("button", {type: "button"}, label);
    button.addEventListener("click", () => { set(value); view.redraw(); });
    button.sync = () => button.setAttribute("aria-pressed", String(get() === value));
    return button;
  });
  return element("div", {class: "group", role: "group", "aria-label": name}, element("span", {}, name), ...buttons);
}

// A button for each of some things, to hide and show it.
function toggles(name, items, hidden, content) {
  const buttons = items.map((item, i) => {
    const button = element("button", {type: "button", class: "run", title: "hide or show"}, ...content(item, i));
    button.addEventListener("click", () => {
      if (hidden.has(item)) hidden.delete(item); else hidden.add(item);
      view.redraw();
    });
    button.sync = () => button.setAttribute("aria-pressed", String(!hidden.has(item)));
    return button;
  });
  return element("div", {class: "group", role: "group", "aria-label": name}, element("span", {}, name), ...buttons);
}

function addControls(nav) {
  nav.append(toggles("runs", runs.map((_, i) => i), view.hidden, (i) =>
    [swatch(runs[i].colour, runs[i].dash), element("span", {class: "name"}, runs[i].name)]));
  if (sources.length > 1) {
    nav.append(toggles("validation", sources, hiddenSources, (source, i) =>
      [swatch("currentColor", dashes[i % dashes.length]), element("span", {class: "name"}, source || "unnamed")]));
  }
  const axes = [["step", "step"], ["tokens", "tokens"]];
  if (isChain) axes.push(["stages", "all stages"]);
  nav.append(choice("x axis", axes, () => view.axis, (axis) => { view.axis = axis; view.range = null; }));
  nav.append(choice("loss", [[false, "linear"], [true, "log"]],
                    () => lossCharts().every((chart) => chart.log), (log) => lossCharts().forEach((chart) => chart.setLog(log))));
  nav.append(choice("smoothing", [[0, "none"], [0.005, "light"], [0.015, "medium"], [0.05, "strong"]],
                    () => view.smoothing, (share) => { view.smoothing = share; }));
  const all = element("button", {type: "button"}, "show all");
  all.addEventListener("click", () => { view.range = null; view.redraw(); });
  all.sync = () => { all.hidden = view.range === null; };
  nav.append(all);
}

function lossCharts() {
  return view.charts.filter((chart) => /loss|bits/.test(chart.options.title.toLowerCase()));
}

function syncControls() {
  for (const button of document.querySelectorAll("nav button")) button.sync();
}

const main = document.getElementById("main");
if (runs.length === 1) document.title = `${runs[0].name} – training report`;
const charts = chartsSection();
const sections = [summarySection(runs), stagesSection(runs, data.layout === "stages"), charts, scoresSection(runs),
                  configurationSection(runs), samplesSection(runs)];
main.append(...sections.filter(Boolean));
addControls(document.getElementById("controls"));
view.redraw();
