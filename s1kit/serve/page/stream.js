// One streamed chat completion: asks, reads the events, hands them on, ends its thinking. Knows nothing of the page.

export class Failed extends Error {
  constructor(message, status, param) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

// Calls `take(event)` with each JSON event; resolves when the stream is done, rejects with Failed.
export async function stream(body, key, signal, take) {
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  const init = { method: "POST", headers, signal, body: JSON.stringify({ ...body, stream: true }) };
  const reply = await inOurWords(fetch("v1/chat/completions", init), "The server cannot be reached.");
  if (!reply.ok) throw failure(await reply.json().catch(() => ({})), reply.status);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await inOurWords(reader.read(), BROKEN);
    if (done) throw new Failed(BROKEN, 0);
    const lines = (held + value).split("\n");
    held = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw failure(event, 0);
      take(event);
    }
  }
}

// Ends the thinking of the reply with this id.
export function stopThinking(id, key) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  return fetch(`v1/requests/${encodeURIComponent(id)}/stop_thinking`, { method: "POST", headers });
}

const BROKEN = "The connection broke before the end.";

// What browsers say of a lost connection differs, and says little. Who stops a run has lost none.
function inOurWords(work, what) {
  return work.catch((error) => {
    throw error.name === "AbortError" ? error : new Failed(what, 0);
  });
}

function failure(body, status) {
  const error = body.error ?? {};
  return new Failed(error.message ?? `The server answered with status ${status}.`, status, error.param);
}
