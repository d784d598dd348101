import { cleanPath } from "./page.js";

/** The API's origin if it differs from the page's: `<html data-api="https://api.shop.example">`. */
export const API = document.documentElement.dataset.api ?? "";

// Longer than any answer of the API takes. Without a limit, a dead connection would show "waiting" forever.
const TIMEOUT = 30_000; // milliseconds

/**
 * Call the API. Never throws: returns `{ok, status, data, retryAfter}`, with status 0 if no answer came.
 */
export async function call(path, { method = "GET", body, token, withCookies = false } = {}) {
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `JWT ${token}`;
  const controller = new AbortController(); // browsers before 2022 have no AbortSignal.timeout
  const timer = setTimeout(() => controller.abort(), TIMEOUT);
  try {
    const response = await fetch(API + path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: withCookies ? "include" : "same-origin",
      signal: controller.signal,
    });
    const data = await readJSON(response);
    return {
      ok: response.ok && data !== null,
      status: response.status,
      data: data ?? {},
      retryAfter: Number(response.headers.get("Retry-After")) || null,
    };
  } catch {
    return { ok: false, status: 0, data: {}, retryAfter: null };
  } finally {
    clearTimeout(timer);
  }
}

// A proxy may answer with HTML, and so may the page that a public Wi-Fi shows first, even with status 200.
async function readJSON(response) {
  const text = await response.text();
  try {
    const data = JSON.parse(text);
    return typeof data === "object" ? data : null;
  } catch {
    return null;
  }
}

/** Ask the API where QQ login starts. On success, `data.login_url` of the answer is the address to open. */
export async function fetchLoginURL(next) {
  const answer = await call(`/oauth/qq/authorization/?next=${encodeURIComponent(cleanPath(next))}`);
  return { ...answer, ok: answer.ok && Boolean(answer.data.login_url) };
}

/** Ask the API for a login: a form's answer is good only if it has a token. */
export async function sendForm(path, body, options) {
  const answer = await call(path, { method: "POST", body, ...options });
  return { ...answer, ok: answer.ok && Boolean(answer.data.token) };
}

const MESSAGES = { // by status, for an answer without a message: no answer, or a proxy's
  0: "网络好像断了，请检查后再试一次。No connection: please try again.",
  413: "填写的内容太长了。What you entered is too long.",
  429: "操作太频繁，请稍后再试。Too many requests: please wait a moment.",
};
const OTHER_MESSAGE = "网站暂时出了点问题，请稍后再试。Something went wrong: please try again later.";

/** Return the text of a failure for the user: the API's message, or a general one if it has none. */
export function describeFailure({ data, status, retryAfter }) {
  const message = data.message ?? MESSAGES[status] ?? OTHER_MESSAGE;
  return status === 429 && retryAfter ? `${message} ${describeWait(retryAfter)}` : message;
}

export function describeWait(seconds) {
  return seconds < 90
    ? `请等 ${seconds} 秒。Please wait ${seconds} seconds.`
    : `请等 ${Math.ceil(seconds / 60)} 分钟。Please wait ${Math.ceil(seconds / 60)} minutes.`;
}
