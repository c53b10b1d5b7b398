// A request as commands that people can run elsewhere, and copying. A key is named, never written.

const KEY = "S1KIT_API_KEY";
const NAMED = new Set(["model", "messages", "temperature", "seed", "n"]); // that OpenAI's client knows by name

export function asCurl(body, hasKey) {
  const quoted = `'${JSON.stringify(body, null, 2).replaceAll("'", `'\\''`)}'`;
  const key = hasKey ? ` \\\n  -H "authorization: Bearer $${KEY}"` : "";
  return `curl ${address("v1/chat/completions")} \\\n  -H 'content-type: application/json'${key} \\\n  -d ${quoted}\n`;
}

export function asPython(body, hasKey) {
  const named = Object.entries(body).filter(([name]) => NAMED.has(name));
  const more = Object.fromEntries(Object.entries(body).filter(([name]) => !NAMED.has(name)));
  const lines = named.map(([name, value]) => `    ${name}=${literal(value)},\n`).join("");
  const key = hasKey ? `os.environ["${KEY}"]` : `"none"`;
  return (
    `${hasKey ? "import os\n\n" : ""}from openai import OpenAI\n\n` +
    `client = OpenAI(base_url=${literal(address("v1"))}, api_key=${key})\n` +
    `reply = client.chat.completions.create(\n${lines}    extra_body=${literal(more)},\n)\n` +
    `for choice in reply.choices:\n    print(choice.message.reasoning)\n    print(choice.message.content)\n`
  );
}

const address = (path) => new URL(path, document.baseURI.replace(/#.*/, "")).href;

// JSON's strings and numbers are Python's; there are no booleans or nulls in a request of this page.
const literal = (value) => JSON.stringify(value).replace(/[\u007f-\u009f\u2028\u2029\ud800-\udfff]/gu, escaped);
const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

// The clipboard API exists only on HTTPS and loopback addresses; elsewhere a field is copied from.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

export async function copyFrom(button, text) {
  const label = button.textContent;
  if (label === "Copied") return;
  await copy(text);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1200);
}
