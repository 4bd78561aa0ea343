// A matrix one can click: lines of cells; a number opens its rows, a plus asks for a pair. Text nodes only.

function head(groups) {
  const top = node("tr"), low = node("tr");
  top.append(node("th"));
  low.append(node("th"));
  for (const group of groups) {
    const name = node("th", "cg-group", group.name);
    name.colSpan = group.columns.length;
    name.scope = "colgroup";
    top.append(name);
    group.columns.forEach((column, i) => {
      const cell = node("th", i ? "" : "cg-first", column);
      cell.scope = "col";
      low.append(cell);
    });
  }
  const block = node("thead");
  block.append(top, low);
  return block;
}

const MARKS = { right: "✓", wrong: "✖", gap: "○" };

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".cg-grid");
  const say = (action, cell) => setTriggerValue("open", JSON.stringify({ do: action, cell }));
  const wide = data.groups[0].columns.length;
  const table = node("table"), body = node("tbody");
  for (const line of data.lines) {
    const row = node("tr"), name = node("th", "cg-name", line.name);
    name.scope = "row";
    name.title = line.name;
    if (line.note) name.append(node("span", "cg-note", line.note));
    row.append(name);
    line.cells.forEach((cell, i) => {
      const here = JSON.stringify(cell.cell) === JSON.stringify(data.chosen);
      const box = node("td", `cg-cell cg-${cell.tone || "none"}${i % wide ? "" : " cg-first"}${here ? " cg-here" : ""}`);
      const open = node(cell.count ? "button" : "span", "cg-count");
      open.title = cell.hint;
      if (cell.tone && (cell.count || cell.tone === "gap")) open.append(node("span", "cg-mark", MARKS[cell.tone]));
      open.append(node("span", "", cell.text || (cell.tone === "gap" ? "none" : "·")));
      if (cell.count) {
        open.setAttribute("aria-label", `${cell.hint}; show them`);
        open.onclick = () => say("rows", cell.cell);
      }
      box.append(open);
      if (cell.add) {
        const add = node("button", "cg-add", "+");
        add.title = `Write or draft a pair for ${cell.cell.join(", ")}`;
        add.setAttribute("aria-label", add.title);
        add.onclick = () => say("write", cell.cell);
        box.append(add);
      }
      row.append(box);
    });
    body.append(row);
  }
  table.append(head(data.groups), body);
  root.replaceChildren(table);
}
