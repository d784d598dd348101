// What the shop's pages share: the login. The browser's storage may be full, forbidden or missing: nothing here throws.

// The shop's other pages read these keys. A shop with simplejwt has `refresh` too, this one has not.
const LOGIN_KEYS = ["token", "refresh", "user_id", "username"];
const RETURN_KEY = "qq_return"; // which QQ login has made this login
const FLOW_LIFE = 12 * 60 * 1000; // milliseconds; later, callback/ does not know the login any more

function attempt(action) {
  try {
    return action();
  } catch {
    return undefined;
  }
}

/** Return the value, or null. The tab's own storage comes first, as on other pages of these shops. */
export function read(key) {
  return attempt(() => sessionStorage.getItem(key)) ?? attempt(() => localStorage.getItem(key)) ?? null;
}

/** Store all entries, if need be until the tab is closed. Returns whether they are stored; if not, none of them is. */
export function write(entries) {
  const keys = Object.keys(entries);
  remove(keys); // also makes room
  return ["localStorage", "sessionStorage"].some((area) => {
    const isStored = attempt(() => {
      for (const key of keys) window[area].setItem(key, entries[key]);
      return true;
    });
    if (!isStored) remove(keys);
    return isStored;
  });
}

export function remove(keys) {
  for (const area of ["localStorage", "sessionStorage"]) {
    for (const key of keys) attempt(() => window[area].removeItem(key));
  }
}

/** Return whether the browser forbids storage to this site. It then forbids cookies too. */
export function isForbidden() {
  return navigator.cookieEnabled === false || attempt(() => sessionStorage.length) === undefined;
}

/**
 * Store the data of a login. Returns null, or the name of the face (faces.js) that says why it could not be stored.
 * `state`: the `state` in the address of the callback page, if QQ has logged the user in.
 */
export function storeLogin(data, state) {
  forgetLogin(); // another login's refresh token must not stay
  const entries = { [RETURN_KEY]: JSON.stringify({ state, next: data.next, time: Date.now() }) };
  for (const key of LOGIN_KEYS) if (key in data) entries[key] = data[key];
  if (write(entries)) return null;
  return isForbidden() ? "storage_blocked" : "storage_full";
}

/** Return the `next` of the login in this browser if it was made by the QQ login that returned with this `state`. */
export function findLoginOf(state) {
  const made = attempt(() => JSON.parse(read(RETURN_KEY))) ?? {};
  const isSame = storedToken() && state !== null && made.state === state;
  return isSame && Date.now() - made.time < FLOW_LIFE ? made.next : null;
}

export function forgetLogin() {
  remove([...LOGIN_KEYS, RETURN_KEY]);
}

export const storedToken = () => read("token");
