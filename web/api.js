/** The API's origin where it is not the page's own: `<html data-api="https://api.shop.example">`. */
export const API = document.documentElement.dataset.api ?? "";

// Longer than the API ever takes; without a limit a dead connection leaves the shopper looking at "waiting".
const TIMEOUT = 30_000;

/**
 * Call the API. Every outcome is a value: `{ok, status, data, retryAfter}`, with status 0 when no answer came.
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

// A proxy in front answers in HTML when the API is down: that is a failure with a status, not a lost network.
async function readJSON(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** `next` if it is a path of this shop, else the shop's front page. */
export function shopPath(next) {
  try {
    const address = new URL(next, location.origin);
    if (next.startsWith("/") && address.origin === location.origin) {
      return address.pathname + address.search + address.hash;
    }
  } catch {
    // not an address, or nothing at all
  }
  return "/";
}

/** Leave for a path of this shop. Replaces the page, so that "back" does not lead into a finished login. */
export function go(next) {
  // With the origin in front: a path such as "//elsewhere.example" would otherwise name another host.
  location.replace(location.origin + shopPath(next));
}

/** Ask the API where QQ login begins. On success the answer's `data.login_url` is the address to go to. */
export function askLoginAddress(next) {
  return call(`/oauth/qq/authorization/?next=${encodeURIComponent(shopPath(next))}`);
}

// The names under which the shop's other pages look for them.
const LOGIN_KEYS = ["token", "user_id", "username"];

export function storeLogin(data) {
  for (const key of LOGIN_KEYS) localStorage.setItem(key, data[key]);
}

export function forgetLogin() {
  for (const key of LOGIN_KEYS) localStorage.removeItem(key);
}

export function storedToken() {
  return localStorage.getItem("token");
}

/** What to tell the shopper when the API had no words of its own. */
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
