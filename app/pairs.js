// Two rows side by side with what differs. Data texts become text nodes only. Keys act here and never wait for the server.

const KEYS = {
  copies: [["1", "Keep left", "left"], ["2", "Keep right", "right"], ["b", "Keep both", "both"], ["m", "Merge", "merge"]],
  conflicts: [["1", "Left is right", "left"], ["2", "Right is right", "right"], ["b", "Both are", "both"], ["x", "Neither", "neither"],
    ["m", "Merge", "merge"]],
};
const WAY = [[" ", "Skip", "skip"], ["z", "Undo", "undo"], ["k", "Back", "back"], ["j", "Next", "next"]];
const FIELDS = ["instruction", "input", "response"];
const MARKS = { error: "✖", warning: "▲", info: "●" };

const count = n => n.toLocaleString("en");

function marked(parts, side) {      // side 1: what the left row says, side 2: the right one
  const box = node("div", "cp-text");
  for (const [op, text] of parts) {
    if (op === 0) box.append(text);
    else if (op === side) box.append(node("mark", side === 1 ? "cp-left" : "cp-right", text));
  }
  return box;
}

function about(row, name, other, kept) {
  const head = node("div", "cp-head");
  head.append(node("b", "", `${name} · row ${count(row.row)}`), node("span", "cp-family", row.family));
  if (kept) head.append(node("span", "cp-kept", kept));
  if (row.verdict) head.append(node("span", "cp-verdict", row.verdict));
  if (row.turns > 2) head.append(node("span", "cp-quiet", `${count(row.turns)} turns, the last exchange is shown`));
  const list = node("ul", "cp-flags");
  for (const f of row.flags) {
    const line = node("li", `cp-${f.severity}`);
    line.append(node("span", "cp-mark", MARKS[f.severity]), node("b", "", f.check), ` ${f.message}`);
    list.append(line);
  }
  if (row.more_flags) list.append(node("li", "", `and ${row.more_flags} more`));
  const cell = node("div", "cp-about");
  cell.append(head, list);
  return cell;
}

function texts(field, left, right, parts) {
  const same = parts && parts.every(p => p[0] === 0);
  const nothing = !left.shown[field] && !(right && right.shown[field]);
  if (nothing) return [];
  const cells = [node("div", "cp-field", same && right ? `${field} (the same)` : field)];
  for (const [row, side] of [[left, 1], [right, 2]]) {
    if (!row) continue;
    const cell = node("div", same ? "cp-cell cp-same" : "cp-cell");
    cell.append(marked(parts ?? [[0, row.shown[field]]], side));
    if (row.more[field]) cell.append(node("div", "cp-quiet", `… ${count(row.more[field])} characters more`));
    cells.push(cell);
  }
  return cells;
}

function merger(left, right, save, leave) {
  const form = node("div", "cp-merge");
  let keep = left;
  const boxes = {};
  const choice = node("div", "cp-choice");
  choice.append(node("span", "", "Keep "));
  for (const [row, name] of [[left, "left"], [right, "right"]]) {
    const label = node("label", ""), box = node("input");
    box.type = "radio";
    box.name = "cp-keep";
    box.checked = row === keep;
    box.onchange = () => { keep = row; };
    label.append(box, ` ${name}, row ${count(row.row)}`);
    choice.append(label);
  }
  choice.append(node("span", "cp-quiet", "The row kept gets the texts below, the other one is rejected: one action."));
  form.append(choice);
  for (const field of FIELDS) {
    if (!left.texts[field] && !right.texts[field] && field === "input") continue;
    const head = node("div", "cp-take"), box = node("textarea");
    head.append(node("span", "", field));
    for (const [row, name] of [[left, "left"], [right, "right"]]) {
      const b = node("button", "cp-key", `take ${name}`);
      b.onclick = () => { box.value = row.texts[field]; };
      if (left.texts[field] === right.texts[field]) b.disabled = true;
      head.append(b);
    }
    box.value = left.texts[field];
    box.dir = "auto";
    box.setAttribute("aria-label", field);
    box.rows = Math.min(12, 2 + Math.max(left.texts[field].length, right.texts[field].length) / 100);
    form.append(head, box);
    boxes[field] = box;
  }
  const bar = node("div", "cp-keys");
  const ok = node("button", "cp-key cp-do", "Merge (Ctrl+Enter)"), no = node("button", "cp-key", "Leave (Esc)");
  const done = () => save(keep, Object.fromEntries(Object.entries(boxes).map(([f, b]) => [f, b.value])));
  ok.onclick = done;
  no.onclick = leave;
  bar.append(ok, no);
  form.append(bar);
  form.onkeydown = ev => {
    if (ev.key === "Escape") leave();
    else if (ev.key === "Enter" && (ev.ctrlKey || ev.metaKey)) done();
    else return;
    ev.preventDefault();
  };
  const first = boxes.response ?? Object.values(boxes)[0];
  if (first) first.autofocus = true;
  return form;
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".cp-pairs");
  const s = (parentElement.cp ??= { client: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, seq: 0, log: [], told: [], pos: data.pos, queue: data.queue, gone: new Set(), seen: {}, left: {} });
  if (s.queue !== data.queue) Object.assign(s, { queue: data.queue, pos: data.pos, told: [], gone: new Set(), seen: {}, left: {}, merging: false });
  s.batch = data.batch;
  s.start = data.start;
  s.total = data.total;
  const acked = data.client === s.client ? data.acked : 0;
  s.log = s.log.filter(e => e.seq > acked);             // what the server has stored is forgotten here
  const keys = KEYS[data.kind] ?? KEYS.copies;
  const send = () => setStateValue("desk", { client: s.client, log: s.log.slice(), pos: s.pos, queue: s.queue });
  const here = () => s.pos < s.total ? s.batch[s.pos - s.start] : undefined;
  const out = row => row.rejected || s.gone.has(row.id);

  function pair() {       // the row that leads and the one it is compared with
    const g = here();
    if (!g) return [null, null, null];
    const seen = s.seen[g.group] ?? [];
    const left = g.rows.find(r => r.id === s.left[g.group]) ?? g.rows.find(r => !out(r)) ?? g.rows[0];
    const others = g.rows.filter(r => r !== left);
    const right = others.find(r => r.id === s.look) ?? others.find(r => !out(r) && !seen.includes(r.id)) ?? others[0];
    return [g, left, right];
  }
  function move(step) {
    s.pos = Math.max(0, Math.min(s.total, s.pos + step));
    s.look = null;
    if (s.pos < s.start + 3 || s.pos > s.start + s.batch.length - 10) send();
    draw();
  }
  function decide(did, more) {
    const [g, left, right] = pair();
    if (!g) return;
    const before = { pos: s.pos, group: g.group, gone: [], seen: (s.seen[g.group] ?? []).slice(), left: s.left[g.group], skip: did === "skip" };
    const keep = more?.keep ?? (did === "right" ? right.id : left.id);
    const lost = did === "neither" ? [left, right] : did === "only" ? g.rows.filter(r => r.id !== left.id)
      : ["left", "right", "merge"].includes(did) ? [keep === left.id ? right : left] : [];
    before.gone = lost.map(r => r.id).filter(id => !s.gone.has(id));
    before.gone.forEach(id => s.gone.add(id));
    s.seen[g.group] = [...before.seen, left.id, right.id];
    if (keep === right.id && lost.length) s.left[g.group] = right.id;
    else if (did === "neither") delete s.left[g.group];
    else s.left[g.group] = left.id;
    s.told.push(before);
    s.look = null;
    s.log.push({ seq: ++s.seq, queue: s.queue, group: g.group, did, left: left.id, right: right.id, ...more });
    if (did === "skip") {         // to the end of the queue; when the window reaches there, it is seen at once
      if (s.start + s.batch.length === s.total) s.batch = [...s.batch, g];
      s.total += 1;
    }
    const rest = g.rows.filter(r => !out(r) && !s.seen[g.group].includes(r.id)).length;
    if (["only", "all", "skip"].includes(did) || !rest) s.pos += 1;
    if (did === "skip") delete s.seen[g.group];
    send();
    draw();
  }
  function undo() {
    const last = s.told.pop();
    if (!last) return;
    Object.assign(s, { pos: last.pos, look: null });
    last.gone.forEach(id => s.gone.delete(id));
    s.seen[last.group] = last.seen;
    if (last.left) s.left[last.group] = last.left; else delete s.left[last.group];
    if (last.skip) s.total -= 1;
    s.log.push({ seq: ++s.seq, queue: s.queue, did: null });
    send();
    draw();
  }
  function look(step) {       // another row of the same group
    const [g, left, right] = pair();
    if (!g || g.rows.length < 3) return;
    const others = g.rows.filter(r => r !== left);
    s.look = others[(others.indexOf(right) + step + others.length) % others.length].id;
    draw();
  }
  function act(key) {
    const did = [...keys, ...WAY].find(k => k[0] === key)?.[2];
    const [g, left, right] = pair();
    if (did === "undo") undo();
    else if (did === "back" || key === "arrowleft") move(-1);
    else if (did === "next" || key === "arrowright") move(1);
    else if (!g) return false;
    else if (did === "merge") { if (!left.long && !right.long) { s.merging = true; draw(); } }
    else if (did) decide(did);
    else if (key === "o" && g.n > 2) decide("only");
    else if (key === "a" && g.n > 2) decide("all");
    else if (key === "n") look(1);
    else return false;
    return true;
  }
  const button = (key, word) => keyed("cp-key", key, word, act);
  function bar(g) {
    const box = node("div", "cp-keys");
    keys.forEach(([key, word]) => box.append(button(key, word)));
    const many = node("span", "cp-many");
    if (g && g.n > 2) many.append(button("o", `Only left of ${count(g.n)}`), button("a", `Keep all ${count(g.n)}`), button("n", "Another row"));
    const way = node("span", "cp-way");
    WAY.forEach(([key, word]) => way.append(button(key, word)));
    box.append(many, way);
    return box;
  }
  function strip(g, left, right) {
    const box = node("div", "cp-strip");
    for (const r of g.rows) {
      const b = node("button", `cp-chip${r === left ? " cp-is-left" : r === right ? " cp-is-right" : ""}`);
      b.textContent = `${out(r) ? "✗ " : ""}row ${count(r.row)}`;
      b.title = r === left ? "on the left" : r === right ? "on the right" : "compare with the left one";
      b.onclick = () => { b.blur(); if (r !== left) { s.look = r.id; draw(); } };
      box.append(b);
    }
    if (g.n > g.rows.length) box.append(node("span", "cp-quiet", `and ${count(g.n - g.rows.length)} more: o and a decide on all of them`));
    return box;
  }
  function top(g) {
    const box = node("div", "cp-top");
    const place = s.pos < s.total ? `${count(s.pos + 1)} of ${count(s.total)}` : "end of the queue";
    const what = !g ? "" : g.n > 2 ? ` · a group of ${count(g.n)} rows, joined from ${g.weakest} on`
      : ` · a pair${data.kind === "conflicts" ? "" : `, joined at ${g.weakest}`}`;
    box.append(node("span", "cp-place", place + what), node("span", "cp-saved", s.log.length ? `saving ${s.log.length} …` : acked ? "all saved" : ""));
    return box;
  }
  function draw() {
    const [g, left, right] = pair();
    const parts = [top(g), ...(s.merging && g ? [] : [bar(g)])];
    if (!g) {
      s.merging = false;
      parts.push(node("div", "cp-none", s.pos >= s.total ? "Nothing is left here. Fill the queue again, or choose other groups."
        : "The next groups are on their way …"));
    } else if (s.merging) {
      parts.push(merger(left, right, (keep, fields) => { s.merging = false; decide("merge", { keep: keep.id, fields }); },
        () => { s.merging = false; draw(); }));
    } else {
      const known = g.pairs[right.id]?.to === left.id ? g.pairs[right.id] : null;     // null: another row leads, its diff comes
      const mirror = !known && g.pairs[left.id]?.to === right.id ? g.pairs[left.id] : null;
      const diff = f => known?.diff[f] ?? mirror?.diff[f].map(([op, text]) => [op ? 3 - op : 0, text]);
      if (g.n > 2) parts.push(strip(g, left, right));
      const grid = node("div", "cp-grid");
      grid.append(about(left, "Left", right, left === g.rows[0] ? `would be kept: ${g.why}` : ""), about(right, "Right", left, ""));
      grid.append(node("div", "cp-alike", (known ?? mirror)?.alike ?? ""));
      FIELDS.forEach(f => grid.append(...texts(f, left, right, diff(f) ?? null)));
      parts.push(grid);
      if (left.long || right.long) parts.push(node("div", "cp-quiet", "A text is too long to merge here; edit the row in Browse."));
    }
    root.replaceChildren(...parts);
    root.querySelector("textarea[autofocus]")?.focus();         // at once: the next key is already text
  }
  if (!s.merging || !here()) draw();
  return hear(root, act, () => s.merging);
}
