// Numbers as people read them, and elements made without markup: text from a run is only ever set as text.

// element("td", {class: "number"}, "text", child, …)
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const missing = "–";

// 1234567 -> "1.23M"; small numbers keep `digits` significant digits.
function short(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return missing;
  const size = Math.abs(value);
  for (const [factor, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= factor * 0.9999999) return Number((value / factor).toPrecision(digits)) + letter;
  }
  if (size !== 0 && size < 1e-3) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    return Number(mantissa) + "e" + Number(exponent);
  }
  return String(Number(value.toPrecision(digits)));
}

// With the thousands apart: 1 234 567.
function whole(value) {
  if (value === null || value === undefined) return missing;
  return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function fixed(value, places) {
  return value === null || value === undefined ? missing : value.toFixed(places);
}

// 3725 -> "1 h 02 min"
function duration(seconds) {
  if (seconds === null || seconds === undefined) return missing;
  if (seconds < 60) return seconds.toFixed(1) + " s";
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  if (seconds < 3600) return Math.floor(seconds / 60) + " min " + two(seconds % 60) + " s";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h " + two((seconds / 60) % 60) + " min";
  return Math.floor(seconds / 86400) + " d " + two((seconds / 3600) % 24) + " h";
}

// "gradient_norm" -> "Gradient norm"
function words(key) {
  const text = key.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// Round steps of 1, 2 or 5 times a power of ten within [low, high], about `count` of them.
function linearTicks(low, high, count) {
  const span = high - low || 1;
  const power = Math.pow(10, Math.floor(Math.log10(span / count)));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => span / s <= count + 0.5) || span;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

// Powers of ten, with 2 and 5 between them where they are few; linear ones within less than a factor of 10.
function logTicks(low, high, count) {
  if (high / low < 10) return linearTicks(low, high, count).filter((v) => v > 0);
  const decades = Math.log10(high / low);
  const factors = decades < 2.5 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / count));
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); ++p) {
    if (p % every !== 0) continue;
    for (const f of factors) {
      const v = Number((f * Math.pow(10, p)).toPrecision(6));
      if (v >= low * 0.999999 && v <= high * 1.000001) ticks.push(v);
    }
  }
  return ticks;
}

// Enough digits to tell neighbouring ticks apart.
function tickLabels(ticks) {
  for (let digits = 2; digits < 8; ++digits) {
    const labels = ticks.map((v) => short(v, digits));
    const exact = new Set(labels).size === labels.length &&
      ticks.every((v) => Math.abs(Number(v.toPrecision(digits)) - v) <= Math.abs(v) * 1e-6);
    if (exact) return labels;
  }
  return ticks.map((v) => short(v, 8));
}
