// Word diffs as text nodes: deleted and inserted pieces differ in form as well as in colour.

const TAGS = { equal: "span", delete: "del", insert: "ins" };

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".cd-changes");
  root.replaceChildren(...data.changes.map(change => {
    const block = node("section", "cd-change");
    block.append(node("div", "cd-head", change.head));
    if (change.say) block.append(node("div", "cd-say", change.say));
    const text = node("div", "cd-text");
    text.dir = "auto";
    for (const [op, piece] of change.parts) text.append(node(TAGS[op] ?? "span", "", piece));
    block.append(text);
    return block;
  }));
}
