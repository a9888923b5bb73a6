() => {
  // Pairs of texts on the page that lie on each other, and texts beyond its edges.
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const parent = node.parentElement;
    if (!node.data.trim() || !parent.checkVisibility({ visibilityProperty: true })) continue;
    if (parent.closest(".skip, noscript, select, .events")) continue; // Unseen, or scrolled.
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width && box.height) texts.push({ text: node.data.trim(), node, box });
    }
  }
  const found = [];
  texts.forEach((one, i) => {
    if (one.box.left < -0.5 || one.box.right > innerWidth + 0.5) found.push([one.text, "the edge"]);
    const drawing = one.node.parentElement.closest("svg")?.getBoundingClientRect();
    if (drawing && (one.box.left < drawing.left || one.box.right > drawing.right + 1)) {
      found.push([one.text, "the edge of its drawing"]);
    }
    for (const other of texts.slice(i + 1)) {
      const wide = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const high = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
      // Lines of text may touch: their boxes are higher than their letters.
      if (one.node !== other.node && wide > 1 && high > 4) found.push([one.text, other.text]);
    }
  });
  return found;
}
