// The language of a page, of the report and of the live lab alike.

const LANGUAGES = ["en", "ko"];

// By the address, else as chosen before, else the browser's.
function preferredLanguage() {
  const kept = new URLSearchParams(location.search).get("lang") ?? remembered();
  if (LANGUAGES.includes(kept)) return kept;
  return navigator.language.startsWith("ko") ? "ko" : "en";
}

// A browser may forbid storage: then the choice lasts as long as the page.
function remembered() {
  try { return localStorage.getItem("language"); } catch { return null; }
}

function remember(chosen) {
  try { localStorage.setItem("language", chosen); } catch { /* Not kept. */ }
}
