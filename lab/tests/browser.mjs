// Headless Chromium, driven by the DevTools protocol over two pipes: messages in JSON, each ended by a zero byte.
//
// Needs node 18 or newer and Chromium; CHROMIUM names the program if it is not called `chromium`.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/// A folder for the time of the check. The browser's own files lie there too.
export const folder = mkdtempSync(join(tmpdir(), "browser-"));
const browser = spawn(
  process.env.CHROMIUM ?? "chromium",
  [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", `--user-data-dir=${folder}`, "--remote-debugging-pipe", "about:blank",
  ],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
);
browser.on("error", (error) => {
  console.error(`cannot start Chromium: ${error.message}; name the program by CHROMIUM`);
  process.exit(1);
});

const [, , , input, output] = browser.stdio;
const waiting = new Map();
let last = 0;
let buffered = "";

/// Functions that get every event: `{ method, params, sessionId }`.
export const listeners = [];

output.setEncoding("utf8");
output.on("data", (chunk) => {
  buffered += chunk;
  const messages = buffered.split("\0");
  buffered = messages.pop();
  for (const text of messages) {
    const message = JSON.parse(text);
    if (message.id) {
      const { resolve, reject } = waiting.get(message.id);
      waiting.delete(message.id);
      message.error ? reject(new Error(message.error.message)) : resolve(message.result);
    } else {
      listeners.forEach((listener) => listener(message));
    }
  }
});

/// Calls a method of the browser, or of a tab by its session. Resolves to the result.
export const send = (method, params = {}, sessionId) =>
  new Promise((resolve, reject) => {
    last += 1;
    waiting.set(last, { resolve, reject });
    input.write(JSON.stringify({ id: last, method, params, sessionId }) + "\0");
  });

/// Ends the browser and removes the folder.
export async function close() {
  const ended = new Promise((done) => browser.on("exit", done));
  await send("Browser.close").catch(() => {});
  await ended;
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
