"use strict";

/**
 * Places the nodes of a tree that grows to the right. A node is in the row of its first child, and subtrees are below each
 * other as close as their outlines allow (Reingold and Tilford, "Tidier drawings of trees", 1981). Not recursive, so chains
 * may be long.
 *
 * `children[i]`: the children of node i from top to bottom, each with an index above i.
 * Returns `[nodes]`: the row of each node in node heights, from 0.
 */
function placeRows(children) {
  const SIBLINGS = 1;
  const COUSINS = 1.2;
  // The first and last row of each subtree by depth, with its root at row 0.
  const tops = [];
  const bottoms = [];
  const offset = new Array(children.length).fill(0);
  for (let node = children.length - 1; node >= 0; node--) {
    const top = [0];
    const bottom = [0];
    for (const child of children[node]) {
      let shift = 0;
      const shared = Math.min(bottom.length - 1, tops[child].length);
      for (let depth = 0; depth < shared; depth++) {
        const gap = depth === 0 ? SIBLINGS : COUSINS;
        shift = Math.max(shift, bottom[depth + 1] + gap - tops[child][depth]);
      }
      offset[child] = shift;
      for (let depth = 0; depth < tops[child].length; depth++) {
        if (depth + 1 >= top.length) top.push(shift + tops[child][depth]);
        bottom[depth + 1] = shift + bottoms[child][depth];
      }
    }
    tops[node] = top;
    bottoms[node] = bottom;
  }
  const rows = new Array(children.length).fill(0);
  children.forEach((kids, node) => kids.forEach((child) => { rows[child] = rows[node] + offset[child]; }));
  return rows;
}

/** The left edges of the nodes: one column per depth, as wide as its widest node. `gap` is the space for edges. */
function placeColumns(depths, widths, gap) {
  const columns = [];
  depths.forEach((depth, node) => { columns[depth] = Math.max(columns[depth] || 0, widths[node]); });
  const lefts = [0];
  columns.forEach((width, depth) => { lefts[depth + 1] = lefts[depth] + width + gap; });
  return { lefts: depths.map((depth) => lefts[depth]), width: lefts[lefts.length - 1] - gap };
}
