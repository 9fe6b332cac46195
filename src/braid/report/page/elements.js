// Parts that all pages are made of.

// columns: [heading, is a number]; rows: arrays of text or nodes.
function table(columns, rows) {
  const cell = (tag, content, number) => {
    const node = element(tag, number ? {class: "number"} : {}, content);
    if (content && content.best) node.classList.add("best");
    return node;
  };
  const head = element("tr", {}, ...columns.map(([heading, number]) => cell("th", heading, number)));
  const body = rows.map((row) => element("tr", {}, ...row.map((content, i) => cell("td", content, columns[i][1]))));
  return element("div", {class: "scroll"}, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

function section(title, ...content) {
  return element("section", {}, element("h2", {}, title), ...content);
}

function note(text) {
  return element("p", {class: "note"}, text);
}
