// The lab's page: accuracy by length, learning curves and every run of each experiment.

const axisNames = {step: "step", length: "length n (log scale)"};
const data = JSON.parse(document.getElementById("data").textContent);
const colours = {"transformer": 0, "gdn-negative": 1, "gdn-positive": 4, "hybrid-negative": 2, "hybrid-positive": 3};
const hidden = new Set();  // architectures
const charts = [];

// Charts hide lines by their `run`, which here is the architecture's name.
function viewOf(axis) {
  return {axis, range: null, smoothing: 0, hidden, redraw() { for (const chart of charts) chart.draw(); syncControls(); }};
}

const colourOf = (name) => `var(--run${colours[name]})`;
const text = (content, attributes = {}) => element("span", attributes, content);

function architectureName(name) {
  return element("span", {class: "label"}, swatch(colourOf(name)), text(name, {class: "name"}));
}

function bestOf(architecture) {
  return architecture.best === null ? null : architecture.runs[architecture.best];
}

// Ours, with the interval, and the paper's figure below.
function accuracyCell(entry) {
  const out = text(fixed(entry.accuracy, 3));
  const interval = `${fixed(entry.interval[0], 3)} to ${fixed(entry.interval[1], 3)}`;
  out.append(" ", element("small", {}, interval));
  if (entry.paper !== undefined) {
    out.append(element("small", {class: "paper"}, `paper ${fixed(entry.paper, 3)}${entry.differs ? ", differs" : ""}`));
  }
  out.mark = [entry.accuracy >= 0.95 ? "solved" : "", entry.differs ? "differs" : ""].filter(Boolean);
  return out;
}

function marked(node) {
  for (const cell of node.querySelectorAll("td")) {
    const content = cell.firstChild;
    if (content && content.mark) cell.classList.add(...content.mark);
  }
  return node;
}

function resultTable(experiment) {
  const rows = experiment.architectures.map((a) => {
    const best = bestOf(a), greatest = experiment.lengths.length - 1;
    const finished = a.runs.filter((run) => run.lengths && run.lengths.length);
    const solved = finished.filter((run) => run.lengths[greatest].accuracy >= 0.95).length;
    const cells = experiment.lengths.map((_, i) => best ? accuracyCell(best.lengths[i]) : missing);
    return [architectureName(a.name), ...cells, `${solved} of ${finished.length}`];
  });
  rows.push([text("chance", {class: "note"}), ...experiment.chance.map((c) => fixed(c, 3)), ""]);
  const last = experiment.lengths[experiment.lengths.length - 1];
  return marked(table([["best run"], ...experiment.lengths.map((n) => [`n = ${n}`, true]),
                       [`runs with 0.95 at n = ${last}`, true]], rows));
}

function lengthLines(experiment) {
  const x = experiment.lengths.map((n) => Math.log2(n));
  const lines = [];
  for (const a of experiment.architectures) {
    const colour = colourOf(a.name);
    a.runs.forEach((run, i) => {
      if (!run.lengths || run.lengths.length === 0) return;
      const best = i === a.best;
      lines.push({run: a.name, label: best ? `${a.name}, best` : run.name, colour, x, smooth: false,
                  y: run.lengths.map((l) => l.accuracy),
                  low: best ? run.lengths.map((l) => l.interval[0]) : null,
                  high: best ? run.lengths.map((l) => l.interval[1]) : null,
                  width: best ? 2.4 : 1, opacity: best ? null : 0.3});
    });
    if (a.paper.some((p) => p !== null)) {
      lines.push({run: a.name, label: `${a.name}, paper`, colour, dash: "6 4", x, y: a.paper, low: null, high: null,
                  smooth: false, width: 1.4, opacity: 0.85});
    }
  }
  lines.push({run: "chance", label: "chance", colour: "var(--dim)", dash: "1 4", x, y: experiment.chance, low: null,
              high: null, smooth: false, opacity: 0.9});
  return lines.sort((a, b) => (a.width || 1) - (b.width || 1));
}

function curveLines(experiment, key) {
  return experiment.architectures.flatMap((a) => a.runs.map((run, i) => {
    const c = run.curves[key], best = i === a.best;
    return {run: a.name, label: `${run.name}${best ? ", best" : ""}`, colour: colourOf(a.name), x: run.curves.step,
            y: c.mean, low: null, high: null, smooth: false, width: best ? 2 : 1, opacity: best ? null : 0.3};
  })).filter((line) => line.x.length).sort((a, b) => a.width - b.width);
}

function chartsOf(experiment) {
  const unit = (words) => ({unit: words});
  const made = [
    new Chart(viewOf("length"), {title: "Accuracy by length", ...unit("best run with 95 % intervals; others thin; paper dashed"),
                                 range: [0, 1.03], xLabel: (x) => short(2 ** x, 5), lines: () => lengthLines(experiment)}),
    new Chart(viewOf("step"), {title: "Held-out accuracy", ...unit("at the stage's length; falls where a stage begins"),
                               range: [0, 1.03], lines: () => curveLines(experiment, "accuracy")}),
    new Chart(viewOf("step"), {title: "Training loss", ...unit("nats per predicted token"), robust: true,
                               lines: () => curveLines(experiment, "loss")}),
  ];
  charts.push(...made);
  return element("div", {class: "charts"}, ...made.map((chart) => chart.figure));
}

function stateOf(run) {
  if (!run.finished) return "not finished";
  return run.failure ? `failed: ${run.failure}` : "finished";
}

function runTable(experiment) {
  const rows = experiment.architectures.flatMap((a) => a.runs.map((run, i) => {
    const name = architectureName(a.name);
    const seed = text(String(run.seed));
    seed.best = i === a.best;
    const lengths = experiment.lengths.map((_, l) => {
      const entry = (run.lengths || [])[l];
      if (!entry) return missing;
      const cell = text(fixed(entry.accuracy, 3));
      cell.best = i === a.best;
      return cell;
    });
    return [name, String(run.learning_rate), run.schedule, seed, ...lengths, whole(run.steps), run.last_n ? String(run.last_n) : missing,
            duration(run.seconds), stateOf(run)];
  }));
  return table([["architecture"], ["learning rate", true], ["schedule"], ["seed", true],
                ...experiment.lengths.map((n) => [`n = ${n}`, true]), ["steps", true], ["last stage", true], ["time", true], ["state"]],
               rows);
}

function experimentSection(experiment) {
  const runs = experiment.architectures.flatMap((a) => a.runs);
  const finished = runs.filter((run) => run.finished);
  const parameters = experiment.architectures.map((a) => [a.name, (a.runs.find((run) => run.parameters) || {}).parameters])
    .filter(([, count]) => count).map(([name, count]) => `${name} ${short(count)}`).join(", ");
  const arithmetic = [...new Set(finished.map((run) => run.arithmetic))].join("; ");
  const paper = experiment.architectures.some((a) => a.paper.some((p) => p !== null));
  return section(`${experiment.name}: ${experiment.problem}, ${experiment.form} form`,
    note(experiment.summary),
    note(`${finished.length} of ${experiment.planned} runs finished, ${finished.filter((run) => run.failure).length} of them ` +
         `failures. Trained at n = ${experiment.stages.join(", ")}; accuracy of the final answer on ${experiment.samples} samples at each ` +
         `length. The best run is the one with the highest accuracy at the greatest length, ties decided by the next one: picked on ` +
         `the samples shown, so that among many runs it flatters a little. Intervals are Wilson's, 95 %.`),
    paper ? note(`Paper: ${data.citation}. "differs": the 95 % interval of the difference leaves out 0, with 256 samples for the ` +
                 `paper's figure; among many cells one in twenty does so by chance.`) : "",
    resultTable(experiment), chartsOf(experiment),
    element("details", {}, element("summary", {}, `Every run (${runs.length})`), runTable(experiment)),
    element("details", {}, element("summary", {}, "Configuration"),
            note(`Parameters: ${parameters || missing}. Arithmetic: ${arithmetic || missing}.`),
            element("pre", {}, experiment.toml)));
}

const names = [...new Set(data.experiments.flatMap((e) => e.architectures.map((a) => a.name)))];
const buttons = names.map((name) => {
  const button = element("button", {type: "button", class: "run"}, architectureName(name));
  button.addEventListener("click", () => {
    if (!hidden.delete(name)) hidden.add(name);
    for (const chart of charts) chart.draw();
    syncControls();
  });
  return button;
});

function syncControls() {
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(!hidden.has(names[i]))));
}

document.getElementById("controls").append(element("div", {class: "group"}, text("models"), ...buttons));
document.getElementById("main").replaceChildren(...data.experiments.map(experimentSection));
syncControls();
