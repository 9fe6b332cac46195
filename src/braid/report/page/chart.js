// One chart: lines over a shared x axis, with a read-out at the pointer and a range chosen by dragging.
// A line is {run, label, colour, dash, width, opacity, x: [], y: [], low: [] or null, high: [] or null, smooth: bool};
// a mark is {run, x, y or null, colour, kind: "spike" or "skip", label}. `view` is shared by all charts:
// {axis, range: [low, high] or null, smoothing, hidden: Set of runs, redraw()}.

const margin = {left: 62, right: 14, top: 12, bottom: 44};

class Chart {
  // options: {title, unit, log: starts logarithmic, robust: the range leaves out extremes, lines(view),
  // marks(view), range: of y, fixed and linear, xLabel: (x) => text where x stands for something else}
  constructor(view, options) {
    this.view = view;
    this.options = options;
    this.log = options.log || false;
    this.height = 280;
    this.plot = svg("svg", {class: "plot", role: "img", "aria-label": options.title});
    this.tip = element("div", {class: "tip", hidden: ""});
    this.title = element("h3", {}, options.title + " ", element("span", {class: "unit"}, options.unit));
    this.toggle = element("button", {type: "button"}, "log scale");
    this.toggle.addEventListener("click", () => { this.setLog(!this.log); view.redraw(); });
    this.figure = element("figure", {}, element("figcaption", {}, this.title, options.range ? "" : this.toggle), this.plot, this.tip);
    this.setLog(this.log);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  setLog(log) {
    this.log = log;
    this.toggle.setAttribute("aria-pressed", String(log));
  }

  draw() {
    this.width = this.plot.clientWidth;
    if (this.width < 100) return;
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const shown = (item) => !this.view.hidden.has(item.run);
    this.lines = this.options.lines(this.view).filter(shown).map((line) => this.smoothed(line));
    this.marks = (this.options.marks ? this.options.marks(this.view) : []).filter(shown);
    this.plot.replaceChildren();
    this.tip.hidden = true;
    if (!this.findRanges()) {
      const text = this.lines.length === 0 ? "nothing to draw" : "no values in this range";
      this.plot.append(svg("text", {x: this.width / 2, y: this.height / 2, "text-anchor": "middle"}, text));
      return;
    }
    this.drawAxes();
    const clip = `clip${Chart.count = (Chart.count || 0) + 1}`;
    const box = {x: margin.left, y: margin.top, width: this.width - margin.left - margin.right,
                 height: this.height - margin.top - margin.bottom};
    this.plot.append(svg("clipPath", {id: clip}, svg("rect", box)));
    const inside = svg("g", {"clip-path": `url(#${clip})`});
    for (const line of this.lines) this.drawLine(inside, line);
    for (const mark of this.marks) this.drawMark(inside, mark);
    this.overlay = svg("g");
    this.plot.append(inside, this.overlay);
  }

  // Adds `drawn`: the mean of two exponential means of `y`, one from each end, so that the curve does not lag;
  // smoothing is their length as a share of the points. The raw values where there is none.
  smoothed(line) {
    const length = line.y.length * this.view.smoothing;
    if (!line.smooth || length < 1) return {...line, drawn: line.y, faint: false};
    const keep = Math.exp(-1 / length);
    const pass = (values) => {
      let sum = 0, weight = 0;
      return values.map((v) => {
        sum = keep * sum + (1 - keep) * v;
        weight = keep * weight + (1 - keep);
        return sum / weight;
      });
    };
    const forward = pass(line.y), backward = pass([...line.y].reverse()).reverse();
    return {...line, drawn: forward.map((v, i) => (v + backward[i]) / 2), faint: true};
  }

  // False when nothing can be drawn.
  findRanges() {
    const usable = (v) => v !== null && (!this.log || v > 0);
    let [x0, x1] = this.view.range || [Infinity, -Infinity];
    if (!this.view.range) {
      for (const line of this.lines) {
        for (const x of line.x) if (x !== null) { x0 = Math.min(x0, x); x1 = Math.max(x1, x); }
      }
    }
    if (!this.view.range && x0 > 0 && x0 < 0.03 * x1) x0 = 0;
    const values = [];
    const take = (v) => { if (usable(v)) values.push(v); };
    for (const line of this.lines) {
      line.x.forEach((x, i) => {
        if (x === null || x < x0 || x > x1) return;
        take(line.y[i]);
        if (line.low) { take(line.low[i]); take(line.high[i]); }
      });
    }
    if (!(x0 <= x1) || values.length === 0) return false;
    values.sort((a, b) => a - b);
    const aside = this.options.robust ? Math.floor(values.length * 0.03) : 0;  // extremes may run off the chart
    let y0 = values[aside], y1 = values[values.length - 1 - aside];
    if (x0 === x1) { x0 -= 1; x1 += 1; }
    if (this.options.range) {
      this.y = this.options.range;
    } else if (this.log) {
      if (y0 === y1) { y0 /= 2; y1 *= 2; }
      const room = Math.pow(y1 / y0, 0.05);
      this.y = [y0 / room, y1 * room];
    } else {
      const room = (y1 - y0) * 0.05 || Math.abs(y0) * 0.1 || 1;
      this.y = [y0 >= 0 && y0 - room < 0 ? 0 : y0 - room, y1 + room];
    }
    this.x = [x0, x1];
    return true;
  }

  toX(x) {
    return margin.left + (x - this.x[0]) / (this.x[1] - this.x[0]) * (this.width - margin.left - margin.right);
  }
  toY(y) {
    const f = this.log ? Math.log : (v) => v;
    const share = (f(y) - f(this.y[0])) / (f(this.y[1]) - f(this.y[0]));
    return this.height - margin.bottom - share * (this.height - margin.top - margin.bottom);
  }

  drawAxes() {
    const bottom = this.height - margin.bottom, right = this.width - margin.right;
    const ys = (this.log ? logTicks : linearTicks)(this.y[0], this.y[1], 6);
    const xs = linearTicks(this.x[0], this.x[1], Math.max(2, Math.floor(this.width / 110)))
      .filter((v) => Number.isInteger(v));
    const grid = svg("g"), labels = svg("g");
    tickLabels(ys).forEach((text, i) => {
      const y = this.toY(ys[i]);
      grid.append(svg("line", {class: "grid", x1: margin.left, x2: right, y1: y, y2: y}));
      labels.append(svg("text", {x: margin.left - 7, y: y + 4, "text-anchor": "end"}, text));
    });
    (this.options.xLabel ? xs.map(this.options.xLabel) : tickLabels(xs)).forEach((text, i) => {
      const x = this.toX(xs[i]);
      grid.append(svg("line", {class: "grid", x1: x, x2: x, y1: margin.top, y2: bottom}));
      labels.append(svg("text", {x: Math.min(x, right - 12), y: bottom + 17, "text-anchor": "middle"}, text));
    });
    labels.append(svg("text", {x: (margin.left + right) / 2, y: this.height - 6, "text-anchor": "middle"},
                      axisNames[this.view.axis]));
    grid.append(svg("path", {class: "axis", fill: "none", d: `M${margin.left} ${margin.top}V${bottom}H${right}`}));
    this.plot.append(grid, labels);
  }

  // A path through the points, broken where a value is missing or has no logarithm.
  path(xs, ys) {
    let d = "", pen = false;
    xs.forEach((x, i) => {
      const y = ys[i];
      if (x === null) return;
      if (y === null || (this.log && y <= 0)) { pen = pen && y === null; return; }
      d += `${pen ? "L" : "M"}${this.toX(x).toFixed(1)} ${this.toY(y).toFixed(1)}`;
      pen = true;
    });
    return d;
  }

  drawLine(into, line) {
    const stroke = {fill: "none", stroke: line.colour, "stroke-linejoin": "round"};
    if (line.low) {  // several steps in a point: a stroke from the least to the greatest
      let d = "";
      line.x.forEach((x, i) => {
        const low = line.low[i], high = line.high[i];
        if (x === null || low === null || (this.log && low <= 0)) return;
        d += `M${this.toX(x).toFixed(1)} ${(this.toY(low) + 0.5).toFixed(1)}V${(this.toY(high) - 0.5).toFixed(1)}`;
      });
      into.append(svg("path", {...stroke, class: "raw", "stroke-width": 1.2, d}));
    } else if (line.faint) {
      into.append(svg("path", {...stroke, class: "raw", "stroke-width": 1, d: this.path(line.x, line.y)}));
    }
    into.append(svg("path", {...stroke, "stroke-width": line.width || 1.8, "stroke-dasharray": line.dash || "none",
                             opacity: line.opacity || 1, d: this.path(line.x, line.drawn)}));
    if (line.x.length <= 40 && !line.opacity) {
      line.x.forEach((x, i) => {
        const y = line.drawn[i];
        if (x === null || y === null || (this.log && y <= 0)) return;
        into.append(svg("circle", {cx: this.toX(x), cy: this.toY(y), r: 2.6, fill: line.colour}));
      });
    }
  }

  drawMark(into, mark) {
    if (mark.x === null || mark.x < this.x[0] || mark.x > this.x[1]) return;
    const x = this.toX(mark.x);
    if (mark.kind === "skip") {
      const y = this.height - margin.bottom;
      into.append(svg("path", {d: `M${x} ${y}V${y - 10}`, stroke: mark.colour, "stroke-width": 2},
                      svg("title", {}, mark.label)));
    } else if (!this.log || mark.y > 0) {
      const y = Math.max(margin.top + 5, this.toY(mark.y));
      into.append(svg("path", {d: `M${x} ${y - 5}l4.5 8h-9z`, fill: "none", stroke: mark.colour, "stroke-width": 1.6},
                      svg("title", {}, mark.label)));
    }
  }

  listen() {
    let from = null;
    const place = (event) => {
      const x = event.clientX - this.plot.getBoundingClientRect().left;
      return Math.min(Math.max(x, margin.left), this.width - margin.right);
    };
    const value = (x) => this.x[0] + (x - margin.left) / (this.width - margin.left - margin.right) * (this.x[1] - this.x[0]);
    this.plot.addEventListener("pointermove", (event) => { if (this.overlay) this.hover(place(event), from, value); });
    this.plot.addEventListener("pointerleave", () => {
      if (this.overlay && from === null) this.overlay.replaceChildren();
      this.tip.hidden = true;
    });
    this.plot.addEventListener("pointerdown", (event) => {
      if (!this.x || event.button !== 0) return;
      from = place(event);
      this.plot.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    this.plot.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const [a, b] = [from, place(event)].sort((p, q) => p - q);
      from = null;
      if (b - a > 8) {
        this.view.range = [value(a), value(b)];
        this.view.redraw();
      }
    });
    this.plot.addEventListener("pointercancel", () => { from = null; });
    this.plot.addEventListener("dblclick", () => { this.view.range = null; this.view.redraw(); });
  }

  // The nearest point of each line at pixel x, in a table beside the pointer.
  hover(x, from, value) {
    this.overlay.replaceChildren();
    const bottom = this.height - margin.bottom;
    if (from !== null) {
      this.overlay.append(svg("rect", {class: "select", x: Math.min(x, from), y: margin.top, width: Math.abs(x - from),
                                       height: bottom - margin.top}));
    }
    const at = value(x), body = element("tbody");
    let nearest = null;
    for (const line of this.lines) {
      const i = nearestIndex(line.x, line.y, at);
      if (i < 0 || Math.abs(this.toX(line.x[i]) - x) > 60) continue;
      if (nearest === null || Math.abs(line.x[i] - at) < Math.abs(nearest - at)) nearest = line.x[i];
      let text = short(line.y[i], 5);
      if (line.low && line.low[i] !== line.high[i]) text += ` (${short(line.low[i], 4)} to ${short(line.high[i], 4)})`;
      if (line.faint) text += `, smoothed ${short(line.drawn[i], 5)}`;
      body.append(element("tr", {}, element("td", {}, swatch(line.colour, line.dash), " ",
                                            element("span", {class: "name"}, line.label)), element("td", {}, text)));
      if (!this.log || line.drawn[i] > 0) {
        this.overlay.append(svg("circle", {cx: this.toX(line.x[i]), cy: this.toY(line.drawn[i]), r: 4, fill: line.colour}));
      }
    }
    if (nearest === null) { this.tip.hidden = true; return; }
    const cross = this.toX(nearest);
    this.overlay.append(svg("path", {class: "cross", fill: "none", d: `M${cross} ${margin.top}V${bottom}`}));
    const atX = this.options.xLabel ? this.options.xLabel(nearest) : whole(Math.round(nearest));
    const heading = `${axisNames[this.view.axis]} ${atX}`;
    this.tip.replaceChildren(element("div", {}, heading), element("table", {}, body));
    this.tip.hidden = false;
    const outer = this.figure.getBoundingClientRect(), inner = this.plot.getBoundingClientRect();
    const left = inner.left - outer.left + cross, wide = this.tip.offsetWidth;
    this.tip.style.left = `${left + 14 + wide > outer.width ? Math.max(4, left - wide - 14) : left + 14}px`;
    this.tip.style.top = `${inner.top - outer.top + 8}px`;
  }
}

// Index of the value nearest to x; xs rise. -1: there is none.
function nearestIndex(xs, ys, x) {
  let low = 0, high = xs.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1; else high = middle;
  }
  let best = -1;
  for (let i = Math.max(0, low - 3); i < Math.min(xs.length, low + 4); ++i) {
    if (ys[i] === null || xs[i] === null) continue;
    if (best < 0 || Math.abs(xs[i] - x) < Math.abs(xs[best] - x)) best = i;
  }
  return best;
}

function swatch(colour, dash) {
  const line = svg("line", {x1: 0, x2: 24, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash || "none"});
  return svg("svg", {class: "swatch", viewBox: "0 0 24 10", "aria-hidden": "true"}, line);
}
