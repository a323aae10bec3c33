// What has been seen: numbers of every frame for curves and heat maps, and some whole frames to look at again.
// Both are bounded. When full, every second one of the older half goes, so that memory stays level.

const MOST_POINTS = 600;
const MOST_MOMENTS = 160;

class History {
  constructor() {
    this.points = [];
    this.moments = [];
    this.theory = new Map();
  }

  /// Adds a frame. One that goes back in time (a restart, a rewind) drops what came after it.
  add(frame) {
    const goesBack = this.points.length > 0 && frame.step < this.points.at(-1).step;
    if (goesBack) this.dropAfter(frame.step);
    if (frame.step === 0 && goesBack) this.theory.clear();
    if (this.points.at(-1)?.step === frame.step) this.points.pop();
    if (this.moments.at(-1)?.step === frame.step) this.moments.pop();
    this.points.push(summary(frame));
    this.moments.push(frame);
    for (const network of frame.networks) {
      if (network.theory) this.theory.set(network.id, network.theory);
    }
    if (this.points.length > MOST_POINTS) this.points = thinned(this.points);
    if (this.moments.length > MOST_MOMENTS) this.moments = thinned(this.moments);
  }

  /// Keeps only what has one of these networks.
  keepOnly(ids) {
    this.points = this.points.filter((it) => ids.some((id) => it.networks.has(id)));
    this.moments = this.moments.filter((it) => it.networks.some(({ id }) => ids.includes(id)));
    for (const id of this.theory.keys()) if (!ids.includes(id)) this.theory.delete(id);
  }

  dropAfter(step) {
    this.points = this.points.filter((it) => it.step <= step);
    this.moments = this.moments.filter((it) => it.step <= step);
  }

  /// The whole frame nearest to a step.
  nearest(step) {
    return this.moments.reduce(
      (best, it) => (!best || Math.abs(it.step - step) < Math.abs(best.step - step) ? it : best), null,
    );
  }

  get last() {
    return this.moments.at(-1) ?? null;
  }

  /// `[step, value]` of every point at which the network was there.
  series(id, key) {
    return this.points.flatMap((point) => (point.networks.has(id) ? [[point.step, point.networks.get(id)[key]]] : []));
  }
}

/// The numbers of a frame that curves and heat maps need.
function summary(frame) {
  const networks = new Map(frame.networks.map((network) => [network.id, {
    loss: network.loss,
    accuracy: network.accuracy,
    std: Float32Array.from(network.layers, (it) => it.std ?? NaN),
    saturated: Float32Array.from(network.layers, (it) => it.saturated ?? it.dead ?? NaN),
    update: Float32Array.from(network.layers, (it) => it.update ?? NaN),
  }]));
  return { step: frame.step, networks };
}

/// Without every second one of the older half. The first stays.
function thinned(list) {
  const half = list.length / 2;
  return list.filter((_, index) => index >= half || index % 2 === 0);
}
