// The review card: shows rows as text nodes only, takes keys in the browser, and keeps a log of verdicts until the
// server has stored them. Streamlit calls the function again at every change of data.

const MARKS = { error: "✖", warning: "▲", info: "●" };
const NAMES = { system: "System", user: "User", assistant: "Assistant", tool: "Tool" };
const KEYS = [
  ["a", "Accept"], ["x", "Reject"], [" ", "Skip"], ["e", "Edit"], ["t", "Take repair"], ["f", "Flag for a second reader"],
  ["z", "Undo"], ["k", "Back"], ["j", "Next"], ["s", "Similar"], ["d", "Diff"], ["g", "Guidelines"], ["?", "Keys"],
];
const HELP = [
  ["a", "accept"], ["x", "reject"], ["1 – 9", "reject with a reason"], ["space", "skip: the row goes to the end of the queue"],
  ["e", "edit any turn; Ctrl+Enter saves, Esc leaves; the checks read the text while you write"],
  ["t", "take the repair that a flag proposes"], ["f", "flag the row for a second reader and go on"],
  ["z", "undo, as often as you like"], ["j  →", "next without a verdict"], ["k  ←", "back"],
  ["s", "rows like this one, beside it"], ["d", "word diff with the nearest duplicate"], ["g", "what the spec asks for"],
  ["Esc", "close what is open beside the row"],
];
const STORE = "curation-review";        // what is decided and not yet known to be stored outlives a reload of the tab
const HIDDEN = /[\p{Cf}\p{Co}\p{Cs}]|[^\P{Cc}\n\t]/gu;      // a change that cannot be seen is named
const PAUSE = 350;                      // ms without a key before the checks read what is being written
const IDLE = 120_000;                   // ms between two verdicts that count as work at most

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
  if (flag.pieces) {
    const fix = node("div", "cw-fix");
    fix.append(node("b", "", `proposed ${flag.field}: `), diff(flag.pieces));
    line.append(fix);
  }
  return line;
}

function diff(pieces) {
  const text = node("div", "cw-diff");
  text.dir = "auto";
  for (const [op, t] of pieces) {
    if (op === "gap") text.append(node("span", "cw-gap", ` … ${t} characters … `));
    else if (op === "equal") text.append(document.createTextNode(t));
    else text.append(node(op === "insert" ? "ins" : "del", "", t.replace(HIDDEN, c => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`)));
  }
  return text;
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

// Every turn as a text one may write in, where the turn stands; `changed` is told of the texts that differ.
function editor(row, at, changed, save, leave) {
  const form = node("div", "cw-edit");
  const boxes = row.boxes.map(b => {
    const block = node("div", `cw-turn cw-${b.role}`);
    const label = node("label", "");
    label.append(node("span", "cw-role", NAMES[b.role] ?? b.role));
    const area = node("textarea");
    area.value = b.text;
    area.dir = "auto";
    area.dataset.field = b.field;
    const fit = () => { area.style.height = "auto"; area.style.height = `${Math.min(area.scrollHeight + 4, 420)}px`; };
    area.oninput = () => { fit(); changed(texts()); };
    setTimeout(fit);
    label.append(area);
    block.append(label);
    form.append(block);
    return { field: b.field, text: b.text, area };
  });
  const texts = () => Object.fromEntries(boxes.filter(b => b.area.value !== b.text).map(b => [b.field, b.area.value]));
  form.onkeydown = ev => {
    if (ev.key === "Escape") leave();
    else if (ev.key === "Enter" && (ev.ctrlKey || ev.metaKey)) save(texts());
    else return;
    ev.preventDefault();
    ev.stopPropagation();
  };
  const bar = node("div", "cw-keys");
  const ok = node("button", "cw-key cw-do-save", "Save"), no = node("button", "cw-key", "Leave");
  ok.append(node("kbd", "", "Ctrl+Enter"));
  no.append(node("kbd", "", "Esc"));
  ok.onclick = () => save(texts());
  no.onclick = leave;
  bar.append(ok, no);
  form.prepend(bar);
  const first = boxes.find(b => b.field === at) ?? boxes.find(b => b.field === "response") ?? boxes.at(-1);
  if (first) first.area.autofocus = true;
  return form;
}

function reader({ data, parentElement }) {
  const card = parentElement.querySelector(".cw-card");
  card.replaceChildren(...data.batch.map(row => show(row, card)));
}

// ---- what stands beside the row

const several = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

function verdictOfChecks(a) {
  const box = node("div", "cw-checked");
  const went = a.gone.length ? `, gone: ${a.gone.join(", ")}` : "", came = a.new.length ? `, new: ${a.new.join(", ")}` : "";
  box.append(node("b", "", a.flags.length ? `${several(a.flags.length, "flag")} now${went}${came}` : `No check flags this text${went}`));
  if (a.flags.length) {
    const list = node("ul", "cw-flags");
    a.flags.slice(0, 20).forEach((f, n) => list.append(chip(f, n, box)));
    box.append(list);
  }
  for (const [name, pieces] of Object.entries(a.diffs)) box.append(node("div", "cw-role", name), diff(pieces));
  return box;
}

const PANELS = {
  check: a => [verdictOfChecks(a)],
  edited: a => [verdictOfChecks(a)],
  diff: a => a.other === null ? [node("div", "cw-none", a.how)] : [
    node("div", "cw-why", `Row ${a.other.toLocaleString("en")} beside row ${a.row.toLocaleString("en")}: ${a.score}, ${a.how}.`),
    (() => { const key = node("div", "cw-why"); key.append(node("del", "", `only in row ${a.other.toLocaleString("en")}`), " ",
      node("ins", "", `only in row ${a.row.toLocaleString("en")}`)); return key; })(),
    ...a.fields.flatMap(f => [node("div", "cw-role", f.name), diff(f.pieces)])],
  similar: a => a.rows.length ? a.rows.map(r => {
    const one = node("div", "cw-like");
    const head = node("div", "cw-head");
    head.append(node("b", "cw-score", r.score), node("span", "", `row ${r.row.toLocaleString("en")}`));
    if (r.verdict) head.append(node("span", "cw-verdict", r.verdict));
    const prompt = node("div", "cw-brief", r.prompt), response = node("div", "cw-brief", r.response);
    prompt.dir = response.dir = "auto";
    one.append(head, node("div", "cw-role", "User"), prompt, node("div", "cw-role", "Assistant"), response);
    return one;
  }) : [node("div", "cw-none", "No other row has words in common with this one.")],
};
const HEADS = {
  check: () => "The checks, as you write", edited: r => `Row ${r} as edited`, diff: r => `Row ${r} and its nearest duplicate`,
  similar: r => `Rows like row ${r}`, guide: () => "Guidelines", keys: () => "Keys",
};

function panelOf(panel, guide, reasons, close, browse) {
  const side = node("aside", "cw-side");
  const head = node("div", "cw-head");
  head.append(node("b", "", HEADS[panel.what]((panel.row ?? 0).toLocaleString("en"))));
  if (panel.what === "similar" && panel.data?.rows.length) {
    const all = node("button", "cw-key", "Open in Browse");
    all.onclick = browse;
    head.append(all);
  }
  if (panel.what !== "check") {
    const x = node("button", "cw-key cw-close", "×");
    x.title = "Close (Esc)";
    x.setAttribute("aria-label", "Close");
    x.onclick = close;
    head.append(x);
  }
  side.append(head);
  if (panel.what === "guide") {
    for (const g of guide) {
      side.append(node("div", "cw-line cw-topic", g.head));
      g.lines.forEach(line => side.append(node("div", "cw-line", line)));
    }
  } else if (panel.what === "keys") {
    const rows = [...HELP, ...reasons.map((w, n) => [`${n + 1}`, `reject: ${w}`])];
    for (const [key, word] of rows) {
      const line = node("div", "cw-line");
      line.append(node("kbd", "", key), ` ${word}`);
      side.append(line);
    }
  } else side.append(...(panel.data ? PANELS[panel.what](panel.data) : [node("div", "cw-none", panel.waits ?? "Looking …")]));
  return side;
}

// ---- the desk

// What the server has not yet told to be stored, of each card.
const waiting = (parts, acked) =>
  parts.map(p => ({ ...p, log: p.log.filter(e => e.seq > (acked[p.client] ?? 0)) })).filter(p => p.log.length);

// What z takes back after entries that the server has not told of yet, oldest first.
function tellings(told, entries) {
  const out = told.slice();
  for (const e of entries) {
    if (e.verdict !== null) out.push({ id: e.id, pos: e.pos, verdict: e.verdict });
    else {
      const at = out.findLastIndex(t => t.id === e.id);
      if (at >= 0) out.splice(at, 1);
    }
  }
  return out;
}

function opened(data) {
  let parts = [], pos = data.pos;
  try {
    const kept = JSON.parse(sessionStorage.getItem(STORE) ?? "null");
    parts = waiting(kept?.parts ?? [], data.acked);
    if (kept?.queue === data.queue && (parts.length || kept.ahead)) pos = kept.pos;
  } catch { /* a browser that keeps nothing, or something else lies there: nothing is waiting */ }
  const client = Array.from({ length: 4 }, () => Math.random().toString(36).slice(2, 8)).join("");
  const told = tellings(data.told, parts.flatMap(p => p.log).filter(e => e.queue === data.queue));
  return { client, seq: 0, old: parts, log: [], told, pos, queue: data.queue, asked: 0, ask: null, panel: null, times: [],
    decided: data.decided };
}

function review({ data, parentElement, setStateValue }) {
  const card = parentElement.querySelector(".cw-card");
  const fresh = !parentElement.cw;
  const s = (parentElement.cw ??= opened(data));
  if (s.queue !== data.queue) {         // another queue was opened
    Object.assign(s, { queue: data.queue, pos: data.pos, told: data.told.slice(), panel: null, editing: null, times: [], decided: data.decided });
  }
  s.batch = data.batch;
  s.start = data.start;
  const acked = c => data.acked[c] ?? 0;
  s.log = s.log.filter(e => e.seq > acked(s.client));       // what the server has stored is forgotten here
  s.old = waiting(s.old, data.acked);
  const skips = [...s.old.flatMap(p => p.log), ...s.log].filter(e => e.queue === s.queue);
  s.total = data.total + skips.filter(e => e.verdict === "skip").length - skips.filter(e => e.verdict === null && e.was === "skip").length;
  const row = () => s.batch[s.pos - s.start];
  const keep = (ahead = false) => {     // ahead: the server does not know the place yet
    try {
      sessionStorage.setItem(STORE, JSON.stringify({ queue: s.queue, pos: s.pos, ahead, parts: [...s.old, { client: s.client, log: s.log }] }));
    } catch { /* full or forbidden: the server is told all the same */ }
  };
  const send = () => {
    keep();
    setStateValue("desk", { parts: [...s.old, { client: s.client, log: s.log.slice() }], pos: s.pos, queue: s.queue, ask: s.ask });
  };
  const say = (id, verdict, more) => { s.log.push({ seq: ++s.seq, queue: s.queue, id, verdict, pos: s.told.at(-1)?.pos ?? s.pos, ...more }); send(); };
  const ask = (what, of, more) => {
    s.ask = { n: `${s.client}-${++s.asked}`, what, row: of.row, id: of.id, ...more };
    send();
  };
  const open = what => {
    if (s.panel?.what === what && s.panel.id === row()?.id) { s.panel = null; draw(); return; }
    const r = row();
    s.panel = { what, id: r?.id, row: r?.row };
    if (what !== "guide" && what !== "keys") {
      if (!r) { s.panel = null; return; }
      ask(what, r);
    }
    draw();
  };
  const move = step => {
    s.pos = Math.max(0, Math.min(s.total, s.pos + step));
    const near = s.pos < s.start + 5 || s.pos > s.start + s.batch.length - 20;
    if (near) send();
    else { keep(true); clearTimeout(s.later); s.later = setTimeout(send, 1500); }      // the place is kept in the folder too
    draw();
  };
  const decide = (verdict, more) => {
    const r = row();
    if (!r) return;
    s.told.push({ id: r.id, pos: s.pos, verdict });
    if (verdict === "skip") s.total += 1;
    else if (verdict !== "ask") { s.decided += 1; s.times.push(Date.now()); }
    s.pos += 1;
    say(r.id, verdict, more);
    draw();
  };
  const save = (fields, more) => {      // an edit stays on its row: the checks read it before one goes on
    const r = row();
    s.editing = null;
    if (!r || !Object.keys(fields).length) { s.panel = null; draw(); return; }
    s.told.push({ id: r.id, pos: s.pos, verdict: "edit" });
    s.decided += 1;
    s.times.push(Date.now());
    s.panel = { what: "edited", id: r.id, row: r.row, waits: "Saved. The checks read it …" };
    s.ask = { n: `${s.client}-${++s.asked}`, what: "edited", row: r.row, id: r.id };
    say(r.id, "edit", { fields, ...more });
    draw();
  };
  const undo = () => {
    const last = s.told.pop();
    if (!last) return;
    s.pos = last.pos;
    if (last.verdict === "skip") s.total -= 1;
    else if (last.verdict !== "ask") { s.decided = Math.max(0, s.decided - 1); s.times.pop(); }
    if (s.panel?.what === "edited") s.panel = null;
    say(last.id, null, { was: last.verdict });
    draw();
  };
  const edit = field => {
    const r = row();
    if (!r || data.blind) return;
    s.panel = r.boxes.length ? { what: "check", id: r.id, row: r.row, waits: "Write, and the checks read it." } : null;
    s.editing = r.boxes.length ? { id: r.id, field } : null;
    s.note = r.boxes.length ? "" : "This row is too long to edit in the browser (over 200,000 characters).";
    draw();
  };
  const repair = () => {
    const r = row(), fixes = (r?.flags ?? []).filter(f => f.fix !== undefined).reverse();
    if (!data.blind && fixes.length) save(Object.fromEntries(fixes.map(f => [f.field, f.fix])), { reason: fixes.at(-1).message });
  };
  const act = key => {
    s.note = "";
    if (key === "a") decide("accept");
    else if (key === "x") decide("reject");
    else if (key === " ") decide("skip");
    else if (key === "f") decide("ask");
    else if (key === "z") undo();
    else if (key === "j" || key === "arrowright") move(1);
    else if (key === "k" || key === "arrowleft") move(-1);
    else if (key === "e") edit();
    else if (key === "t") repair();
    else if (key === "s") open("similar");
    else if (key === "d") open("diff");
    else if (key === "g") open("guide");
    else if (key === "?") open("keys");
    else if (key === "escape" && s.panel) { s.panel = null; draw(); }
    else if (/^[1-9]$/.test(key) && data.reasons[key - 1]) decide("reject", { reason: data.reasons[key - 1] });
    else return false;
    return true;
  };
  const pace = () => {
    const recent = s.times.slice(-30);
    if (recent.length < 4) return "";
    let ms = 0;
    for (let k = 1; k < recent.length; k += 1) ms += Math.min(IDLE, recent[k] - recent[k - 1]);
    const rate = (recent.length - 1) / Math.max(ms, 1) * 60_000, left = (s.total - s.pos) / rate;
    const time = left < 1 ? "less than a minute" : left < 90 ? `${Math.round(left)} min` : `${(left / 60).toFixed(1)} h`;
    return ` · ${rate < 10 ? rate.toFixed(1) : Math.round(rate)} rows/min · ${time} left`;
  };
  const top = () => {
    const bar = node("div", "cw-top");
    const n = s.log.length + s.old.reduce((m, p) => m + p.log.length, 0);
    const place = s.pos < s.total ? `${(s.pos + 1).toLocaleString("en")} of ${s.total.toLocaleString("en")}` : "end of the queue";
    const more = `${s.decided ? ` · ${s.decided.toLocaleString("en")} decided` : ""}${pace()}`;
    bar.append(node("span", "", place + more), node("span", "cw-saved", n ? `saving ${n} …` : Object.keys(data.acked).length ? "all saved" : ""));
    return bar;
  };
  const buttons = r => {
    const bar = node("div", "cw-keys");
    for (const [key, word] of KEYS) {
      const b = keyed(`cw-key cw-do-${word.split(" ")[0].toLowerCase()}`, key, word, act);
      b.disabled = (data.blind && (key === "e" || key === "t")) || (key === "t" && !r?.flags.some(f => f.fix !== undefined));
      bar.append(b);
    }
    return bar;
  };
  const reasons = () => {
    const bar = node("div", "cw-keys cw-reasons");
    bar.append(node("span", "cw-role", "Reject because"));
    data.reasons.forEach((word, n) => bar.append(keyed("cw-key", `${n + 1}`, word, act)));
    return bar;
  };
  const body = r => {
    if (!r) {
      return node("div", "cw-none", s.pos >= s.total ? "Nothing is left in this queue. Fill it again, or choose another one."
        : "The next rows are on their way …");
    }
    if (!s.editing) {
      const shown = show(r, card);
      shown.querySelectorAll(".cw-turn").forEach((turn, k) => {
        turn.ondblclick = () => edit(r.boxes.filter(b => b.role !== "input")[k]?.field);
      });
      return shown;
    }
    const leave = () => { s.editing = null; s.panel = null; draw(); };
    return editor(r, s.editing.field, fields => {
      clearTimeout(s.pause);
      s.pause = setTimeout(() => { if (s.editing && row()) ask("check", row(), { fields }); }, PAUSE);
    }, save, leave);
  };
  const side = () => s.panel && panelOf(s.panel, data.guide, data.reasons, () => { s.panel = null; draw(); }, () => ask("browse", s.panel));
  function draw() {
    const r = row();
    if (s.editing && s.editing.id !== r?.id) { s.editing = null; s.panel = null; }
    // The parts are drawn anew only where what they show has changed: texts keep their scroll place, an editor its cursor.
    const parts = [
      ["top", null, top],
      ["keys", JSON.stringify([!!s.editing, data.blind, s.note, r?.flags.some(f => f.fix !== undefined)]), () => {
        const bar = node("div", "");
        bar.append(buttons(r), reasons());
        if (s.editing) bar.querySelectorAll("button").forEach(b => { b.disabled = true; });     // they sleep, and stay in their place
        if (s.note) bar.append(node("div", "cw-none", s.note));
        return bar;
      }],
      ["main", JSON.stringify(s.editing ?? [r, s.pos >= s.total]), () => { const m = node("div", "cw-main"); m.append(body(r)); return m; }],
      ["side", JSON.stringify(s.panel), () => side() ?? node("div", "cw-empty")],
    ];
    s.drawn ??= {};
    if (!card.querySelector(".cw-cols")) {
      card.replaceChildren(node("div", "cw-slot-top"), node("div", "cw-slot-keys"), node("div", "cw-cols"));
      card.querySelector(".cw-cols").append(node("div", "cw-slot-main"), node("div", "cw-slot-side"));
      s.drawn = {};
    }
    for (const [name, mark, make] of parts) {
      if (mark !== null && s.drawn[name] === mark) continue;
      s.drawn[name] = mark;
      card.querySelector(`.cw-slot-${name}`).replaceChildren(make());
      card.querySelector(`.cw-slot-${name} textarea[autofocus]`)?.focus();      // at once: the next key is already text
    }
    card.querySelector(".cw-cols").classList.toggle("cw-two", !!s.panel);
  }
  const a = data.answer;
  if (a && s.ask && a.n === s.ask.n && s.panel?.what === a.what && s.panel.id === a.id) s.panel = { ...s.panel, data: a };
  draw();
  const deaf = hear(card, act, () => s.editing);
  if (fresh && s.old.length) setTimeout(send);      // decided before a reload, and perhaps not stored
  return deaf;
}

export default function (component) {
  return component.data.mode === "review" ? review(component) : reader(component);
}
