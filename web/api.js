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
  try {
    const response = await fetch(API + path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: withCookies ? "include" : "same-origin",
      signal: AbortSignal.timeout?.(TIMEOUT),
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
  }
}

// When the API is down, the proxy answers with HTML: a failure with a status, not a network error.
async function readJSON(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Return `next` if it is a path of this shop, otherwise the shop's front page. */
export function cleanPath(next) {
  try {
    const address = new URL(next, location.origin);
    if (next.startsWith("/") && address.origin === location.origin) {
      return address.pathname + address.search + address.hash;
    }
  } catch {
    // `next` is missing or not a URL.
  }
  return "/";
}

/** Go to a path of this shop. Replaces the page, so that "back" does not return to a finished login. */
export function go(next) {
  // Prefix the origin: a path such as "//elsewhere.example" alone would lead to another host.
  location.replace(location.origin + cleanPath(next));
}

/** Ask the API where QQ login starts. On success, `data.login_url` of the answer is the address to open. */
export function fetchLoginURL(next) {
  return call(`/oauth/qq/authorization/?next=${encodeURIComponent(cleanPath(next))}`);
}

// The shop's other pages read these keys. A shop with simplejwt has `refresh` too, this one has not.
const LOGIN_KEYS = ["token", "refresh", "user_id", "username"];

export function storeLogin(data) {
  forgetLogin(); // another login's refresh token must not stay
  for (const key of LOGIN_KEYS) if (key in data) localStorage.setItem(key, data[key]);
}

export function forgetLogin() {
  for (const key of LOGIN_KEYS) localStorage.removeItem(key);
}

export function storedToken() {
  return localStorage.getItem("token");
}

/** Return the text of a failure for the user: the API's message, or a general one if it has none. */
export function describeFailure({ data, status, retryAfter }) {
  const message = data.message ?? (status === 0
    ? "网络好像断了，请检查后再试一次。No connection: please try again."
    : "网站暂时出了点问题，请稍后再试。Something went wrong: please try again later.");
  return status === 429 && retryAfter ? `${message} ${describeWait(retryAfter)}` : message;
}

export function describeWait(seconds) {
  return seconds < 90
    ? `请等 ${seconds} 秒。Please wait ${seconds} seconds.`
    : `请等 ${Math.ceil(seconds / 60)} 分钟。Please wait ${Math.ceil(seconds / 60)} minutes.`;
}
