// A table of rates one can click: in each cell the rate, its interval as a line on a track, and how many. Text nodes only.

const percent = x => `${Math.round(100 * x)}`;

function draw(cell, chosen, open) {
  const button = node("button", `cs-cell${cell.few ? " cs-few" : ""}${chosen ? " cs-chosen" : ""}`);
  button.title = cell.hint;
  button.setAttribute("aria-pressed", String(chosen));
  const track = node("span", "cs-track"), span = node("span", "cs-span"), dot = node("span", "cs-dot");
  span.style.left = `${100 * cell.low}%`;
  span.style.width = `${Math.max(1, 100 * (cell.high - cell.low))}%`;
  dot.style.left = `${100 * cell.rate}%`;
  track.append(span, dot);
  const words = node("span", "cs-words"), below = node("span", "cs-below");
  words.append(node("b", "", `${percent(cell.rate)} %`), node("span", "cs-ci", `${percent(cell.low)}–${percent(cell.high)}`));
  below.append(track, node("span", "cs-n", `n ${cell.n.toLocaleString("en")}`));
  button.append(words, below);
  button.onclick = open;
  return button;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".cs-rates");
  const table = node("table"), head = node("tr");
  head.append(node("th"));
  for (const name of data.columns) {
    const th = node("th", "cs-column", name);
    th.scope = "col";
    th.title = name;
    head.append(th);
  }
  table.append(head);
  for (const row of data.rows) {
    const line = node("tr"), th = node("th", "cs-row", row.name);
    th.scope = "row";
    th.title = row.name;
    line.append(th);
    row.cells.forEach((cell, k) => {
      const td = node("td");
      const column = data.columns[k];
      if (cell) td.append(draw(cell, data.chosen[0] === row.name && data.chosen[1] === column, () => setTriggerValue("open", [row.name, column])));
      else td.append(node("span", "cs-none", "–"));
      line.append(td);
    });
    table.append(line);
  }
  root.replaceChildren(table);
}
