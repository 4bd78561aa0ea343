// A prompt and the answers to it: to read, each with what was said of it, or to choose blindly between two. Keys are taken
// in the browser, and votes are kept in a log until the server has stored them. Texts are text nodes only. Streamlit calls
// the function again at every change of data.

const NAMES = { system: "System", user: "User", assistant: "Assistant" };
const KEYS = [["1", "Left"], ["0", "Tie"], ["2", "Right"], [" ", "Skip"], ["z", "Undo"], ["?", "Keys"]];
const HELP = "1 or ← the left answer is better · 2 or → the right one · 0 or ↓ a tie · space skip (to the end) · z undo";
const VOTES = { 1: "left", arrowleft: "left", 2: "right", arrowright: "right", 0: "tie", arrowdown: "tie", " ": "skip" };

function block(name, title, text) {
  const part = node("div", `ca-block ${name}`);
  const body = node("div", "ca-text", text || "(empty)");
  if (!text) body.classList.add("ca-empty");
  body.dir = "auto";
  body.tabIndex = -1;
  part.append(node("div", "ca-role", title), body);
  return part;
}

function show(pair) {
  const body = node("div", "ca-pair");
  pair.turns.forEach(t => body.append(block("ca-turn", NAMES[t.role] ?? t.role, t.text)));
  const sides = node("div", "ca-sides");
  sides.append(block("ca-left", "Left", pair.left), block("ca-right", "Right", pair.right));
  body.append(sides);
  return body;
}

function note(n) {
  const line = node("li", `ca-note ca-${n.mark}`);
  line.append(node("span", "ca-mark", { ok: "✓", no: "✗", info: "·" }[n.mark]), node("span", "", n.text));
  return line;
}

function reader({ data, parentElement }) {
  const root = parentElement.querySelector(".ca-answers");
  const parts = data.turns.map(t => block("ca-turn", NAMES[t.role] ?? t.role, t.text));
  const sides = node("div", data.answers.length > 1 ? "ca-sides" : "");
  for (const a of data.answers) {
    const part = block("ca-answer", a.title, a.text);
    const list = node("ul", "ca-notes");
    a.notes.forEach(n => list.append(note(n)));
    part.append(list);
    sides.append(part);
  }
  parts.push(sides);
  if (data.wanted) parts.push(block("ca-wanted", "Wanted", data.wanted));
  root.replaceChildren(...parts);
}

function chooser({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".ca-answers");
  const s = (parentElement.ca ??= { seq: data.acked, log: [], told: [], pos: data.pos, queue: data.queue });
  if (s.queue !== data.queue) Object.assign(s, { seq: data.acked, log: [], told: [], pos: data.pos, queue: data.queue });
  s.batch = data.batch;
  s.start = data.start;
  s.log = s.log.filter(e => e.seq > data.acked);        // what the server has stored is forgotten here
  s.total = data.total + s.log.reduce((n, e) => n + (e.vote === "skip" ? 1 : e.was === "skip" ? -1 : 0), 0);
  const pair = () => s.batch[s.pos - s.start];
  const send = () => setStateValue("desk", { log: s.log.slice(), pos: s.pos, queue: s.queue });
  const say = (probe, vote, more) => { s.log.push({ seq: ++s.seq, probe, vote, ...more }); send(); };
  const vote = word => {
    const p = pair();
    if (!p) return;
    s.told.push({ id: p.id, pos: s.pos, vote: word });
    if (word === "skip") s.total += 1;
    s.pos += 1;
    say(p.id, word);
    draw();
  };
  const undo = () => {
    const last = s.told.pop();
    if (!last) return;
    s.pos = last.pos;
    if (last.vote === "skip") s.total -= 1;
    say(last.id, null, { was: last.vote });
    draw();
  };
  const act = key => {
    if (VOTES[key]) vote(VOTES[key]);
    else if (key === "z") undo();
    else if (key === "?") { s.help = !s.help; draw(); }
    else return false;
    return true;
  };
  const buttons = () => {
    const bar = node("div", "ca-keys");
    for (const [key, word] of KEYS) bar.append(keyed(`ca-key ca-do-${word.toLowerCase()}`, key, word, act));
    return bar;
  };
  const top = () => {
    const bar = node("div", "ca-top"), n = x => x.toLocaleString("en");
    bar.append(node("span", "ca-place", s.pos < s.total ? `pair ${n(data.before + s.pos + 1)} of ${n(data.before + s.total)}` : "all pairs are voted on"),
      node("span", "ca-saved", s.log.length ? `saving ${s.log.length} …` : data.acked || data.before ? "all saved" : ""));
    return bar;
  };
  function draw() {
    const p = pair(), parts = [top(), buttons()];
    if (s.help) parts.push(node("div", "ca-help", HELP));
    parts.push(p ? show(p) : node("div", "ca-help", s.pos >= s.total ? "Nothing is left to choose." : "The next pairs are on their way …"));
    root.replaceChildren(...parts);
  }
  draw();
  return hear(root, act);
}

export default function (component) {
  return component.data.mode === "read" ? reader(component) : chooser(component);
}
