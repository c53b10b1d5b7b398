// What the page remembers beside its address: colours and plain text for ever, the API key as long as the tab lives.

function read(store, name) {
  try {
    return globalThis[store].getItem(`s1kit-${name}`) ?? "";
  } catch {
    return ""; // Private windows may have no storage.
  }
}

function write(store, name, value) {
  try {
    if (value) globalThis[store].setItem(`s1kit-${name}`, value);
    else globalThis[store].removeItem(`s1kit-${name}`);
  } catch {}
}

export const theme = () => read("localStorage", "theme") || "auto";
export const keepTheme = (name) => write("localStorage", "theme", name);
export const isPlain = () => read("localStorage", "plain") === "yes";
export const keepPlain = (is) => write("localStorage", "plain", is ? "yes" : "");
export const key = () => read("sessionStorage", "key");
export const keepKey = (text) => write("sessionStorage", "key", text);
