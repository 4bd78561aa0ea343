// What all components begin with: nodes that hold text and no markup, and keys of the page.

function node(tag, name, text) {
  const n = document.createElement(tag);
  if (name) n.className = name;
  if (text !== undefined) n.textContent = text;
  return n;
}

// Whether a key is meant for the page: not while one writes, is on a control that takes it, or has a dialog open.
function awake(ev) {
  const t = ev.composedPath()[0];
  if (ev.ctrlKey || ev.metaKey || ev.altKey || t.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(t.tagName)) return false;
  if (t.tagName === "BUTTON" && (ev.key === " " || ev.key === "Enter")) return false;
  if (/^Arrow/.test(ev.key) && t.closest?.('[role="slider"], [role="radiogroup"], [role="tablist"], [role="listbox"]')) return false;
  return !document.querySelector('[role="dialog"], [data-baseweb="popover"]');
}

// Send keys to `act`, which says whether it took one, while `root` is on the page; returns what ends it. One component hears at
// a time, the newest: while a page is drawn anew the old one may stand beside it, and a key must not count twice.
function hear(root, act, asleep = () => false) {
  const onkey = ev => { if (root.isConnected && !asleep() && awake(ev) && act(ev.key.toLowerCase())) ev.preventDefault(); };
  document.removeEventListener("keydown", document.curationKeys);
  document.addEventListener("keydown", document.curationKeys = onkey);
  return () => document.removeEventListener("keydown", onkey);
}

// A button that does what a key does, and shows the key.
function keyed(name, key, word, act) {
  const b = node("button", name);
  b.append(node("span", "", word), node("kbd", "", key === " " ? "space" : key));
  b.setAttribute("aria-keyshortcuts", key === " " ? "Space" : key);
  b.onclick = () => { b.blur(); act(key); };
  return b;
}
