// Bars one can click: groups of lines, each a name, a bar of parts, a number. Text nodes only.

function bar(line, max) {
  const track = node("span", "cb-track");
  for (const part of line.parts) {
    const piece = node("span", `cb-part cb-${part.tone}`);
    piece.style.width = `${Math.max(part.value ? 0.4 : 0, 100 * part.value / max)}%`;
    track.append(piece);
  }
  for (const at of line.marks ?? []) {
    const mark = node("span", "cb-goal");
    mark.style.left = `${Math.min(100, 100 * at / max)}%`;
    track.append(mark);
  }
  return track;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".cb-bars");
  const max = Math.max(1, ...data.groups.flatMap(g => g.lines.flatMap(l => [l.parts.reduce((n, p) => n + p.value, 0), ...(l.marks ?? [])])));
  root.replaceChildren(...data.groups.map(group => {
    const block = node("section", "cb-group");
    if (group.name) block.append(node("h4", "", group.name));
    for (const line of group.lines) {
      const row = node(line.open ? "button" : "div", "cb-line");
      row.title = line.hint ?? "";
      const name = node("span", "cb-name", line.name);
      row.append(name, bar(line, max), node("span", "cb-count", line.text));
      if (line.open) row.onclick = () => setTriggerValue("open", line.open);
      block.append(row);
    }
    return block;
  }));
}
