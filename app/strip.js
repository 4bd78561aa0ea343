// Small histograms side by side: grey bars are all rows, blue ones those of the filter, each to its own scale. A click on a
// bar, a drag over several, or Enter asks for them. Text nodes only; the height never changes.

function head(panel, send) {
  const line = node("div", "cs-head");
  if (panel.options.length) {
    const choice = node("select", "cs-choice");
    choice.setAttribute("aria-label", "Signal");
    for (const name of panel.options) {
      const option = node("option", "", name);
      option.value = name;
      option.selected = name === panel.name;
      choice.append(option);
    }
    choice.onchange = () => send("option", choice.value);
    line.append(choice);
  } else line.append(node("span", "cs-title", panel.title));
  const clear = node("button", "cs-clear", "× any");
  clear.title = "Take this condition away";
  clear.style.visibility = panel.held ? "visible" : "hidden";
  clear.onclick = () => send("range", { name: panel.name, first: -1, last: -1 });
  line.append(clear);
  return line;
}

function bars(panel, send) {
  const box = node("div", "cs-bars");
  const most = key => Math.max(1, ...panel.bars.map(b => b[key]));
  const all = most("all"), some = most("some");
  const shown = panel.bars.map((bar, k) => {
    const b = node("button", "cs-bar");
    b.classList.toggle("cs-on", bar.on);
    b.title = `${bar.label || "(none)"}: ${bar.all.toLocaleString("en")} rows, ${bar.some.toLocaleString("en")} in this filter`;
    b.setAttribute("aria-label", b.title);
    b.setAttribute("aria-pressed", bar.on);
    for (const [key, top] of [["all", all], ["some", some]]) {
      const piece = node("span", `cs-${key}`);
      piece.style.height = bar[key] ? `max(2px, ${100 * bar[key] / top}%)` : "0";
      b.append(piece);
    }
    b.dataset.k = k;
    return b;
  });
  box.append(...shown);
  for (const mark of panel.marks) {
    const line = node("span", "cs-mark");
    line.style.left = `${100 * mark.at}%`;
    line.title = mark.text;
    box.append(line);
  }
  const paint = (a, b) => shown.forEach((s, k) => s.classList.toggle("cs-pick", a !== null && k >= Math.min(a, b) && k <= Math.max(a, b)));
  const at = x => {
    const box = shown.map(s => s.getBoundingClientRect());
    const k = box.findIndex(r => x < r.right);
    return k < 0 ? shown.length - 1 : k;
  };
  let from = null;
  box.onpointerdown = ev => {
    if (ev.button || !shown.length) return;
    from = at(ev.clientX);
    box.setPointerCapture(ev.pointerId);
    paint(from, from);
    ev.preventDefault();
  };
  box.onpointermove = ev => { if (from !== null) paint(from, panel.single ? from : at(ev.clientX)); };
  box.onpointerup = ev => {
    if (from === null) return;
    const to = panel.single ? from : at(ev.clientX);
    send("range", { name: panel.name, first: Math.min(from, to), last: Math.max(from, to) });
    from = null;
  };
  box.onpointercancel = () => { from = null; paint(null); };
  box.onkeydown = ev => {
    const k = Number(ev.target.dataset?.k);
    if ((ev.key === "Enter" || ev.key === " ") && Number.isInteger(k)) {
      send("range", { name: panel.name, first: k, last: k });
      ev.preventDefault();
    }
  };
  return box;
}

function foot(panel) {
  const line = node("div", "cs-foot");
  const marks = panel.marks.map(m => m.text).join(", ");
  line.append(node("span", "", panel.ends[0]), node("span", "cs-said", marks), node("span", "", panel.ends[1]));
  return line;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".cs-strip");
  root.replaceChildren(...data.panels.map(panel => {
    const block = node("section", "cs-panel");
    block.append(head(panel, setTriggerValue), bars(panel, setTriggerValue), foot(panel));
    return block;
  }));
}
