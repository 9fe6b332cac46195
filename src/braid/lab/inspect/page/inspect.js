// Gates, eigenvalues and states of every delta-rule head over the tokens of a text.

const axisNames = {token: "token"};
const data = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set(), charts = [];
const view = {axis: "token", range: null, smoothing: 0, hidden, redraw() { for (const chart of charts) chart.draw(); sync(); }};
const dashes = ["", "7 4", "2 3", "9 3 2 3"];

const shown = (word) => word === "\n" ? "⏎" : word;
data.heads.forEach((head, i) => {
  head.name = `layer ${head.layer}, head ${head.head}`;
  head.colour = `var(--run${i % 8})`;
  head.dash = dashes[Math.floor(i / 8) % dashes.length];
});
const label = (head) => element("span", {class: "label"}, swatch(head.colour, head.dash), element("span", {class: "name"}, head.name));

function chart(title, unit, key, options = {}) {
  const lines = () => data.heads.map((head, i) => ({run: i, label: head.name, colour: head.colour, dash: head.dash,
    x: head[key].map((_, t) => t), y: head[key], low: null, high: null, smooth: false}));
  const made = new Chart(view, {title, unit, lines, xLabel: (t) => shown(data.words[t] || ""), ...options});
  charts.push(made);
  return made.figure;
}

const three = (v) => fixed(v, 3);
function quartileTable() {
  return table([["head"], ["decay: least", true], ["median", true], ["greatest", true], ["beta: least", true], ["quartile", true],
                ["median", true], ["quartile", true], ["greatest", true], ["least eigenvalue", true], ["words by mean beta"]],
    data.heads.map((head) => {
      const d = head.decay_quartiles, b = head.beta_quartiles;
      const words = head.beta_by_word.slice(0, 12).map((w) => `${shown(w.word)} ${fixed(w.mean_beta, 2)}`).join("  ");
      return [label(head), three(d[0]), three(d[2]), three(d[4]), ...b.map(three), three(Math.min(...head.eigenvalue)), words];
    }));
}

const buttons = data.heads.map((head, i) => {
  const button = element("button", {type: "button", class: "run"}, label(head));
  button.addEventListener("click", () => {
    if (!hidden.delete(i)) hidden.add(i);
    view.redraw();
  });
  return button;
});
function sync() {
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(!hidden.has(i))));
}

document.getElementById("controls").append(element("div", {class: "group"}, element("span", {}, "heads"), ...buttons));
const figures = data.heads.length === 0 ? note("This model has no delta-rule layer.") : element("div", {class: "charts"},
  chart("beta", "how strongly a token erases and writes; 2 reflects, above 1 the eigenvalue is negative", "beta", {range: [0, 2.05]}),
  chart("Eigenvalue along the key", "decay · (1 − beta · |k|²)", "eigenvalue", {range: [-1.05, 1.05]}),
  chart("Decay", "of the state, also the eigenvalue across the key", "decay", {range: [0, 1.03]}),
  chart("State norm", "Frobenius", "state_norm"),
  chart("Effective rank of the state", "participation ratio of the singular values", "effective_rank"),
  chart("Erased", "Frobenius norm of what the token takes out of the state", "erased"),
  chart("Written", "… and of what it puts in", "written"));
document.getElementById("main").replaceChildren(
  note(`Model: ${data.model}. The states are found again from the layers' own queries, keys, values and gates; what the heads put out ` +
       `differs from the ordinary forward by ${short(data.difference_from_forward, 2)} (relative RMS).`),
  element("pre", {}, data.words.join(" ").replaceAll(" \n ", "\n")), figures,
  ...(data.heads.length === 0 ? [] : [section("Distributions over the tokens", quartileTable())]));
sync();
