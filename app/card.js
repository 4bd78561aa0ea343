// The review card: shows rows as text nodes only, takes keys in the browser, and keeps a log of verdicts until the
// server has stored them. Streamlit calls the function again at every change of data.

const MARKS = { error: "✖", warning: "▲", info: "●" };
const NAMES = { system: "System", user: "User", assistant: "Assistant", tool: "Tool" };
const KEYS = [
  ["a", "Accept"], ["x", "Reject"], [" ", "Skip"], ["e", "Edit"], ["z", "Undo"], ["k", "Back"], ["j", "Next"], ["?", "Keys"],
];
const HELP = "a accept · x reject · space skip (to the end of the queue) · e edit (Ctrl+Enter saves, Esc leaves) · z undo · " +
  "j or → next · k or ← back · 1–9 reject with a reason";

function node(tag, name, text) {
  const n = document.createElement(tag);
  if (name) n.className = name;
  if (text !== undefined) n.textContent = text;
  return n;
}

function chip(flag, number, root) {
  const line = node("li", `cw-flag cw-${flag.severity}`);
  line.append(node("span", "cw-mark", MARKS[flag.severity] ?? "●"), node("code", "cw-check", flag.check),
    node("span", "cw-say", flag.message));
  line.title = `${flag.severity}, score ${flag.score}`;
  if (flag.span) {
    line.tabIndex = 0;
    line.classList.add("cw-has-span");
    const show = () => root.querySelector(`[data-flags~="${number}"]`)?.scrollIntoView({ block: "nearest" });
    line.onclick = show;
    line.onkeydown = ev => { if (ev.key === "Enter") show(); };
    line.onmouseenter = () => root.querySelectorAll(`[data-flags~="${number}"]`).forEach(m => m.classList.add("cw-lit"));
    line.onmouseleave = () => root.querySelectorAll(".cw-lit").forEach(m => m.classList.remove("cw-lit"));
  }
  return line;
}

function turn(t, flags) {
  const block = node("div", `cw-turn cw-${t.role}`);
  block.append(node("div", "cw-role", NAMES[t.role] ?? t.role));
  const text = node("div", "cw-text");
  text.dir = "auto";
  for (const part of t.parts) {
    if (part.gap) { text.append(node("span", "cw-gap", ` … ${part.gap.toLocaleString("en")} characters not shown … `)); continue; }
    if (!part.f.length) { text.append(document.createTextNode(part.t)); continue; }
    const first = flags[part.f[0]];
    const mark = node("mark", `cw-${first.severity}`, part.t);
    mark.dataset.flags = part.f.join(" ");
    mark.title = part.f.map(n => `${flags[n].check}: ${flags[n].message}`).join("\n");
    text.append(mark);
  }
  if (!t.parts.length) text.append(node("span", "cw-gap", "(empty)"));
  block.append(text);
  return block;
}

function show(row, root) {
  const body = node("div", "cw-row");
  const head = node("div", "cw-head");
  head.append(node("b", "", `row ${row.row.toLocaleString("en")}`), node("span", "cw-family", row.family));
  if (row.verdict) head.append(node("span", "cw-verdict", row.verdict));
  body.append(head);
  if (row.why) body.append(node("div", "cw-why", row.why));
  if (row.flags.length) {
    const list = node("ul", "cw-flags");
    row.flags.forEach((f, n) => list.append(chip(f, n, root)));
    body.append(list);
  } else body.append(node("div", "cw-none", "No check has flagged this row."));
  row.turns.forEach(t => body.append(turn(t, row.flags)));
  return body;
}

function editor(row, save, leave) {
  const form = node("div", "cw-edit");
  const boxes = {};
  for (const [name, text] of Object.entries(row.edit)) {
    const label = node("label", "", name);
    const box = node("textarea");
    box.value = text;
    box.dir = "auto";
    box.rows = Math.min(14, 2 + text.length / 80 + text.split("\n").length);
    label.append(box);
    form.append(label);
    boxes[name] = box;
  }
  const changed = () => Object.fromEntries(Object.entries(boxes).filter(([k, b]) => b.value !== row.edit[k]).map(([k, b]) => [k, b.value]));
  form.onkeydown = ev => {
    if (ev.key === "Escape") leave();
    else if (ev.key === "Enter" && (ev.ctrlKey || ev.metaKey)) save(changed());
    else return;
    ev.preventDefault();
  };
  const bar = node("div", "cw-keys");
  const ok = node("button", "cw-key", "Save (Ctrl+Enter)"), no = node("button", "cw-key", "Leave (Esc)");
  ok.onclick = () => save(changed());
  no.onclick = leave;
  bar.append(ok, no);
  form.append(bar);
  setTimeout(() => (boxes.response ?? Object.values(boxes)[0])?.focus());
  return form;
}

function reader({ data, parentElement }) {
  const card = parentElement.querySelector(".cw-card");
  card.replaceChildren(...data.batch.map(row => show(row, card)));
}

function review({ data, parentElement, setStateValue }) {
  const card = parentElement.querySelector(".cw-card");
  const s = (parentElement.cw ??= { seq: 0, log: [], told: [], pos: data.pos, queue: data.queue });
  if (s.queue !== data.queue) { s.queue = data.queue; s.pos = data.pos; s.told = []; }   // another queue was opened
  s.batch = data.batch;
  s.start = data.start;
  s.total = data.total;
  s.log = s.log.filter(e => e.seq > data.acked);        // what the server has stored is forgotten here
  const row = () => s.batch[s.pos - s.start];
  const send = () => setStateValue("desk", { log: s.log.slice(), pos: s.pos, queue: s.queue });
  const say = (id, verdict, more) => { s.log.push({ seq: ++s.seq, id, verdict, ...more }); send(); };
  const move = step => {
    s.pos = Math.max(0, Math.min(s.total, s.pos + step));
    const near = s.pos < s.start + 5 || s.pos > s.start + s.batch.length - 20;
    if (near) send();
    draw();
  };
  const decide = (verdict, more) => {
    const r = row();
    if (!r) return;
    s.told.push({ id: r.id, pos: s.pos, verdict });
    if (verdict === "skip") s.total += 1;
    s.pos += 1;
    say(r.id, verdict, more);
    draw();
  };
  const undo = () => {
    const last = s.told.pop();
    if (!last) return;
    s.pos = last.pos;
    if (last.verdict === "skip") s.total -= 1;
    say(last.id, null, { was: last.verdict });
    draw();
  };
  const act = key => {
    if (key === "a") decide("accept");
    else if (key === "x") decide("reject");
    else if (key === " ") decide("skip");
    else if (key === "z") undo();
    else if (key === "j" || key === "arrowright") move(1);
    else if (key === "k" || key === "arrowleft") move(-1);
    else if (key === "e" && row()) { s.editing = true; draw(); }
    else if (key === "?") { s.help = !s.help; draw(); }
    else if (/^[1-9]$/.test(key) && data.reasons[key - 1]) decide("reject", { reason: data.reasons[key - 1] });
    else return false;
    return true;
  };
  const onkey = ev => {
    const t = ev.composedPath()[0];
    if (ev.ctrlKey || ev.metaKey || ev.altKey || t.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName)) return;
    if (t.tagName === "BUTTON" && (ev.key === " " || ev.key === "Enter")) return;     // a focused button keeps its own keys
    if (document.querySelector('[role="dialog"], [data-baseweb="popover"]')) return;  // keys sleep while one is open
    if (act(ev.key.toLowerCase())) ev.preventDefault();
  };
  const top = () => {
    const bar = node("div", "cw-top");
    const waiting = s.log.length ? `saving ${s.log.length} …` : data.acked ? "all saved" : "";
    bar.append(node("span", "", s.pos < s.total ? `${(s.pos + 1).toLocaleString("en")} of ${s.total.toLocaleString("en")}` : "end of the queue"),
      node("span", "cw-saved", waiting));
    return bar;
  };
  const buttons = () => {
    const bar = node("div", "cw-keys");
    for (const [key, word] of KEYS) {
      const b = node("button", `cw-key cw-do-${word.toLowerCase()}`);
      b.append(node("span", "", word), node("kbd", "", key === " " ? "space" : key));
      b.setAttribute("aria-keyshortcuts", key === " " ? "Space" : key);
      b.onclick = () => { b.blur(); act(key); };
      bar.append(b);
    }
    return bar;
  };
  function draw() {
    const r = row();
    const parts = [top()];
    if (r && s.editing) {
      parts.push(editor(r, fields => {
        s.editing = false;
        if (Object.keys(fields).length) decide("edit", { fields }); else draw();
      }, () => { s.editing = false; draw(); }));
    } else {
      s.editing = false;
      parts.push(buttons());
      if (s.help) parts.push(node("div", "cw-help", `${HELP}: ${data.reasons.map((w, n) => `${n + 1} ${w}`).join(", ")}`));
      parts.push(r ? show(r, card) : node("div", "cw-none", s.pos >= s.total
        ? "Nothing is left in this queue. Fill it again, or choose another one." : "The next rows are on their way …"));
    }
    card.replaceChildren(...parts);
  }
  if (!s.editing || !row()) draw();
  if (s.onkey) document.removeEventListener("keydown", s.onkey);
  document.addEventListener("keydown", s.onkey = onkey);
  return () => document.removeEventListener("keydown", s.onkey);
}

export default function (component) {
  return component.data.mode === "review" ? review(component) : reader(component);
}
