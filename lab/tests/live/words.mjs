// Checks that no text of the live lab lacks its other language, that both say the same (the same numbers and names in braces),
// that every text that the page asks for exists, and that none is left over.
//
//   node lab/tests/live/words.mjs
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = join(dirname(fileURLToPath(import.meta.url)), "../../src/live/page");
const read = (name) => readFileSync(join(folder, name), "utf8");
const scripts = ["../../page/language", "words", "config", "lessons", "history", "link", "canvas", "pictures", "bench", "panels", "tour", "live"]
  .map((name) => [name, read(`${name}.js`)]);
const [words, own] = new Function(`${read("words.js").split("const byId")[0]}; return [WORDS, OWN];`)();
const problems = [];

/// Names and formulas are the same in both languages; a sentence is not.
function compare(where, english, korean) {
  for (const [language, text] of [["English", english], ["Korean", korean]]) {
    if (typeof text !== "string" || !text.trim()) problems.push(`${where}: no ${language}`);
  }
  if (typeof english !== "string" || typeof korean !== "string") return;
  const holes = (text) => (text.match(/\{\w+\}/g) ?? []).sort().join();
  if (holes(english) !== holes(korean)) problems.push(`${where}: ${holes(english)} in English, ${holes(korean)} in Korean`);
  const isName = /^[\w(), :/.²√]*$/.test(english) && english === korean;
  if (!/[가-힣]/.test(korean) && !isName) problems.push(`${where}: "${korean}" is not Korean`);
  if (/[가-힣]/.test(english)) problems.push(`${where}: "${english}" is not English`);
  if (/[^\S\n]{2,}|\s$/.test(english + "\n" + korean.trimEnd())) problems.push(`${where}: stray spaces`);
}

for (const [key, texts] of [...Object.entries(words), ...Object.entries(own)]) {
  if (texts.length !== 2) problems.push(`${key}: ${texts.length} texts`);
  compare(key, ...texts);
}
for (const key of Object.keys(own)) if (!(key in words)) problems.push(`"${key}" of an own network stands for nothing`);

/// Every object with `en` or `ko` in the lessons, wherever it is.
function walk(where, value) {
  if (value === null || typeof value !== "object") return;
  if ("en" in value || "ko" in value) return compare(where, value.en, value.ko);
  for (const [key, inner] of Object.entries(value)) walk(`${where}.${key}`, inner);
}
const { lessons } = JSON.parse(read("lessons.json"));
walk("lessons", lessons);
for (const lesson of lessons) {
  for (const key of ["title", "question", "why", "next"]) if (!lesson[key]?.en) problems.push(`${lesson.id}: no ${key}`);
}

// What the page asks for: t("key"), keys built from a beginning, and keys in index.html and in lists of keys.
const html = read("index.html");
const asked = new Set([...html.matchAll(/data-(?:t|label)="(\w+)"/g)].map(([, key]) => key));
for (const [, key] of html.matchAll(/data-help="(\w+)"/g)) asked.add(`help_${key}`).add(`what_${key}` in words ? `what_${key}` : key);
const beginnings = new Set();
for (const [, text] of scripts) {
  for (const [, key] of text.matchAll(/\bt\("([\w-]+)"/g)) asked.add(key);
  for (const [, beginning] of text.matchAll(/\bt\(`([a-z_]+)\$/g)) beginnings.add(beginning);
}
for (const key of asked) if (!(key in words)) problems.push(`the page asks for "${key}", which has no text`);
const code = scripts.filter(([name]) => name !== "words").map(([, text]) => text).join("\n");
for (const key of Object.keys(words)) {
  const used = asked.has(key) || [...beginnings].some((it) => key.startsWith(it)) || code.includes(`"${key}"`);
  if (!used) problems.push(`"${key}" is not used`);
}

problems.forEach((text) => console.error(text));
console.log(problems.length === 0 ? `${Object.keys(words).length} texts and ${lessons.length} lessons are in English and Korean` : `${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
