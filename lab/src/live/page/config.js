"use strict";
// What a network can be set to, how a bench is written in the page's address, and how numbers are written.

const INITS = ["zeros", "standard-normal", "small-normal", "xavier", "he"];
const ACTIVATIONS = ["relu", "tanh", "sigmoid", "leaky-relu", "gelu", "selu", "silu"];
const NORMS = ["none", "batch", "burn"];
const OPTIMIZERS = ["sgd", "momentum", "adam", "adamw"];
const PIXELS = 784;
const CLASSES = 10;
const MOST_NETWORKS = 4;

/// What the server takes for a field that is not given.
const DEFAULTS = {
  init: "he", std: null, scale: 1, activation: "relu", norm: "none", depth: 5, width: 100, optimizer: "adam", lr: 0.001,
};

const USUAL = { batch: 128, seed: 42 };

/// Limits of the numbers, as the server checks them.
const LIMITS = {
  std: [1e-4, 10], scale: [1e-4, 1e3], depth: [1, 30], width: [4, 512], lr: [1e-6, 10], batch: [2, 1024], seed: [0, 2 ** 32 - 1],
};
const WHOLE = ["depth", "width", "batch", "seed"];

/// The std of the initial weights of a hidden layer with `fanIn` inputs.
function initialStd(config, fanIn = config.width) {
  if (config.std !== null) return config.std * config.scale;
  const std = {
    "zeros": 0, "standard-normal": 1, "small-normal": 0.01, "xavier": Math.sqrt(1 / fanIn), "he": Math.sqrt(2 / fanIn),
  }[config.init];
  return std * config.scale;
}

function within(value, [low, high]) {
  return Math.min(Math.max(value, low), high);
}

/// The bench as text for the address: `batch=128&seed=42&net=init:he,depth:10`. Defaults are left out.
function encodeBench(bench) {
  const parts = [`batch=${bench.batch}`, `seed=${bench.seed}`];
  for (const network of bench.networks) {
    const changed = Object.keys(DEFAULTS)
      .filter((key) => key in network && !sameValue(network[key], DEFAULTS[key]))
      .map((key) => `${key}:${typeof network[key] === "number" ? Number(network[key].toPrecision(5)) : network[key]}`);
    parts.push(`net=${changed.join(",")}`);
  }
  return parts.join("&");
}

/// Numbers may come back from the server in single precision.
function sameValue(a, b) {
  return typeof a === "number" && typeof b === "number" ? a.toPrecision(5) === b.toPrecision(5) : a === b;
}

/// The bench that a text from an address names, or null. Unknown names and numbers out of their limits are ignored.
function decodeBench(text) {
  const bench = { networks: [], ...USUAL };
  for (const part of text.replace(/^#/, "").split("&")) {
    const [key, value = ""] = part.split("=");
    if (key === "net" && bench.networks.length < MOST_NETWORKS) bench.networks.push(decodeNetwork(value));
    if (key === "batch" || key === "seed") bench[key] = decodeNumber(key, value) ?? bench[key];
  }
  return bench.networks.length > 0 ? bench : null;
}

function decodeNetwork(text) {
  const network = { ...DEFAULTS };
  const names = { init: INITS, activation: ACTIVATIONS, norm: NORMS, optimizer: OPTIMIZERS };
  for (const part of decodeURIComponent(text).split(",")) {
    const [key, value] = part.split(":");
    if (names[key]?.includes(value)) network[key] = value;
    else if (key in LIMITS && key in DEFAULTS) network[key] = decodeNumber(key, value) ?? network[key];
  }
  return network;
}

function decodeNumber(key, text) {
  const value = Number.parseFloat(text);
  if (!Number.isFinite(value)) return null;
  const limited = within(value, LIMITS[key]);
  return WHOLE.includes(key) ? Math.round(limited) : limited;
}

/// A number in at most `digits` significant digits, with a real minus sign and powers of ten as such.
function number(value, digits = 2) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? scientific(value, digits) : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

function scientific(value, digits) {
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const raised = [...String(Number(exponent))].map((it) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[it] ?? "⁻").join("");
  return `${Number(mantissa)}·10${raised}`;
}

function percent(share) {
  if (!Number.isFinite(share)) return "–";
  return `${Math.round(share * 100)}\u00a0%`;
}

/// Letters name the networks, by place.
function letter(place) {
  return "ABCD"[place] ?? "?";
}

/// The initial weights in short: `He`, `N(0, 0.01²)`.
function initName(config) {
  const times = config.scale === 1 ? "" : `${number(config.scale)} × `;
  if (config.std !== null) return `${times}N(0, ${number(config.std, 3)}²)`;
  return times + {
    "zeros": "0", "standard-normal": "N(0, 1)", "small-normal": "N(0, 0.01²)", "xavier": "Xavier", "he": "He",
  }[config.init];
}

const ACTIVATION_NAMES = {
  "relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid", "leaky-relu": "leaky ReLU", "gelu": "GELU", "selu": "SELU", "silu": "SiLU",
};
const OPTIMIZER_NAMES = { sgd: "SGD", momentum: "SGD + momentum", adam: "Adam", adamw: "AdamW" };
