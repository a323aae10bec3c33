// Lessons are data (lessons.json). These functions say what a run measured, and which prediction it bears out.
// A test in Rust reads the same data and runs every lesson.

/// The number that `what` names in the frames of a lesson's moments, or null if it was not measured.
function measure(moments, what) {
  const frame = moments[what.moment ?? moments.length - 1];
  const network = frame?.networks[what.network];
  if (!network) return null;
  if (what.measure === "accuracy" || what.measure === "loss") return network[what.measure];
  if (what.measure === "test") return network.test?.accuracy ?? null;
  const value = ofLayer(network, what.measure, what.layer ?? "last");
  if (what.over === undefined || value === null) return value;
  const other = ofLayer(network, what.measure, what.over);
  return other ? value / other : null;
}

function ofLayer(network, path, layer) {
  const index = { first: 0, last: network.layers.length - 1 }[layer] ?? layer;
  return path.split(".").reduce((at, key) => at?.[key] ?? null, network.layers[index] ?? null);
}

/// Whether a claim holds for the frames of a lesson's moments. A number that was not measured bears nothing out.
function holds(moments, claim) {
  const found = measure(moments, claim);
  const bound = claim.of ? measure(moments, { ...claim.of }) : claim.value;
  if (found === null || bound === null) return false;
  const limit = bound * (claim.times ?? 1);
  return claim.is === "at least" ? found >= limit : found <= limit;
}

/// The indices of the choices whose claims all hold.
function borneOut(moments, choices) {
  return choices.flatMap((choice, index) => (choice.claims.every((claim) => holds(moments, claim)) ? [index] : []));
}
