// Requests to the server: errors become sentences, and a server that is busy is asked again.

const PATIENCE = 120; // times that a busy server is asked, a second or so apart

export async function ask(path, options = {}) {
  for (let tries = 0; ; tries++) {
    let response;
    try {
      response = await fetch(path, { credentials: "same-origin", ...options });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Error("The server does not answer. Is it still running?");
    }
    if (response.status === 503 && tries < PATIENCE) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise(resolve => setTimeout(resolve, 1000 * seconds * (0.5 + Math.random())));
      continue;
    }
    if (response.status === 401) location.reload();
    const type = response.headers.get("Content-Type") || "";
    const answer = type.includes("json") ? await response.json() : {};
    if (!response.ok) {
      const failure = new Error(answer.error || `The server answered ${response.status}.`);
      failure.status = response.status;
      throw failure;
    }
    return answer;
  }
}

export const send = (method, path, value) => ask(path, {
  method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(value),
});

// Elements are made, never parsed from text: a file's name can hold no markup that counts.
export function make(kind, attributes = {}, ...children) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export const byId = id => document.getElementById(id);
