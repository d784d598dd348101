import { fromAPI, getLanguage, join } from "./language.js";
import { AFTER_LINKING, cleanPath } from "./page.js";
import { texts, wait } from "./texts.js";

/** The API's origin if it differs from the page's: `<html data-api="https://api.shop.example">`. */
export const API = document.documentElement.dataset.api ?? "";

// Longer than any answer of the API takes. Without a limit, a dead connection would show "waiting" forever.
const TIMEOUT = 30_000; // milliseconds

/**
 * Call the API. Never throws: returns `{ok, status, data, retryAfter, language}`, with status 0 if no answer came.
 * Texts in `data` are in this language. `early`: the result of takeEarlyCall(), if this very call is under way.
 */
export async function call(path, { method = "GET", body, token, withCookies = false, early } = {}) {
  const language = early?.language ?? getLanguage();
  const headers = { Accept: "application/json", "Accept-Language": language };
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `JWT ${token}`;
  const controller = new AbortController(); // browsers before 2022 have no AbortSignal.timeout
  const timer = early?.timer ?? setTimeout(() => controller.abort(), TIMEOUT);
  try {
    const response = await (early?.response ?? fetch(API + path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: withCookies ? "include" : "same-origin",
      signal: controller.signal,
    }));
    const data = await readJSON(response);
    return {
      ok: response.status === 204 || (response.ok && data !== null),
      status: response.status,
      data: data ?? {},
      retryAfter: Number(response.headers.get("Retry-After")) || null,
      language,
    };
  } catch {
    return { ok: false, status: 0, data: {}, retryAfter: null, language };
  } finally {
    clearTimeout(timer);
  }
}

/** Return the call that the script in the HTML has made already, once: `{response, language, timer}`, or null. */
export function takeEarlyCall() {
  const early = window.earlyCall ?? null;
  window.earlyCall = null;
  return early;
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

/**
 * Ask the API where QQ login starts. On success, `data.login_url` of the answer is the address to open. `isLinking`:
 * the user is signed in, and adds the QQ to the account.
 */
export async function fetchLoginURL(next, { isLinking = false } = {}) {
  const query = new URLSearchParams(isLinking ? { next: AFTER_LINKING, purpose: "bind" } : { next: cleanPath(next) });
  const answer = await call(`/oauth/qq/authorization/?${query}`);
  return { ...answer, ok: answer.ok && Boolean(answer.data.login_url) };
}

/** Ask the API for a login: a form's answer is good only if it has a token. */
export async function sendForm(path, body, options) {
  const answer = await call(path, { method: "POST", body, ...options });
  return { ...answer, ok: answer.ok && Boolean(answer.data.token) };
}

const GENERAL = { 0: texts.network, 400: texts.refused, 413: texts.tooLong, 429: texts.throttled }; // by status

/** Return the text of a failure for the user: the API's message, or a general one if it has none. */
export function describeFailure({ data, status, retryAfter, language }) {
  const general = GENERAL[status] ?? texts.failure;
  const message = data.message ? fromAPI(data.message, language, general) : general;
  return status === 429 && retryAfter ? join(message, wait(retryAfter)) : message;
}
