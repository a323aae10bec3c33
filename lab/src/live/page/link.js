// The connection to the server: events come down, actions go up. A recording needs none.

class Link {
  constructor(token, on) {
    this.token = token;
    this.on = on;
    this.waiting = Promise.resolve();
  }

  listen() {
    const events = new EventSource(`/events?token=${encodeURIComponent(this.token)}`);
    events.addEventListener("open", () => this.on.connected(true));
    events.addEventListener("state", (event) => this.on.state(JSON.parse(event.data)));
    events.addEventListener("frame", (event) => this.on.frame(JSON.parse(event.data)));
    events.addEventListener("error", (event) => {
      // The server's own errors carry data; the browser's say that the connection is gone.
      if (event.data) return this.on.failed(JSON.parse(event.data).text);
      this.on.connected(false);
      if (events.readyState === EventSource.CLOSED) setTimeout(() => this.listen(), 2000);
    });
  }

  /// Sends an action. Actions are sent one after the other, so that the server sees them in order.
  act(action) {
    const sent = this.waiting.then(() => this.post("/act", action)).catch((error) => this.on.failed(error.words ?? null));
    this.waiting = sent;
    return sent;
  }

  /// Asks every network what it reads in 784 pixels.
  async read(pixels) {
    return (await this.post("/read", { pixels })).json();
  }

  async post(path, body) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Token": this.token },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(20000),
    });
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({}));
    throw Object.assign(new Error(`${path}: ${response.status}`), { words: error });
  }
}
