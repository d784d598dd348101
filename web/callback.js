import { askLoginAddress, call, describeWait, go, shopPath, storeLogin } from "./api.js";
import { MOBILE, openBindForm } from "./bind.js";
import { faces, repeatingText, steps } from "./faces.js";

// In sessionStorage: one login per tab, gone with the tab, out of reach of the login in another tab.
const QUERY = "qq_query";
const BIND_TOKEN = "qq_bind_token";
const MAX_REPEATS = 5;
const LONG_WAIT = 5; // seconds: a shorter one is over before it is read

const byId = (id) => document.getElementById(id);
let query = new URLSearchParams();

/**
 * What this page was opened with. It leaves the address at once, so that it is not bookmarked, shared or read over
 * a shoulder, and is kept until the login is done, so that a reload works.
 */
function takeQuery() {
  const { search } = location;
  if (search) {
    history.replaceState(null, "", location.pathname);
    sessionStorage.setItem(QUERY, search);
    sessionStorage.removeItem(BIND_TOKEN);
  }
  return new URLSearchParams(sessionStorage.getItem(QUERY) ?? "");
}

function forgetFlow() {
  for (const key of [QUERY, BIND_TOKEN, MOBILE]) sessionStorage.removeItem(key);
}

function show(state, { text = faces[state].text, step = faces[state].step, retryAfter } = {}) {
  const { heading } = faces[state];
  byId("status").dataset.state = state;
  byId("status").hidden = false;
  byId("bind").hidden = true;
  [byId("status-heading").textContent, byId("status-heading-en").textContent] = heading;
  [byId("status-text").textContent, byId("status-text-en").textContent] = text;
  byId("status-wait").textContent = retryAfter ? describeWait(retryAfter) : "";
  byId("status-steps").hidden = !step;
  byId("status").classList.toggle("is-moving", !step && state !== "done");
  document.title = `${heading[0]} · 美多商城`;
  if (!step) return;
  [byId("again-label").textContent, byId("again-label-en").textContent] = steps[step];
  byId("again").dataset.step = step;
  byId("other-way").hidden = step === "login";
  byId("status-heading").focus();
}

function showFailure({ status, data, retryAfter }) {
  const state = data.code in faces ? data.code : status === 0 ? "network" : "failure";
  show(state, {
    text: data.message ? [data.message, ""] : faces[state].text,
    retryAfter: status === 429 && retryAfter,
  });
}

async function finishLogin() {
  show("waiting");
  // The whole query: where QQ returns straight to this page, the API needs QQ's `state` beside the code.
  const ask = () => call(`/oauth/qq/users/?${query}`, { withCookies: true });
  let answer = await ask();
  for (let repeats = 0; answer.data.code === "qq_busy" && repeats < MAX_REPEATS; repeats++) {
    const wait = answer.retryAfter ?? 1;
    show("qq_busy", { text: repeatingText, step: null, retryAfter: wait > LONG_WAIT && wait });
    // Up to two seconds more than asked, or all who were turned away together come back together.
    await sleep(wait + 2 * Math.random());
    answer = await ask();
  }

  const keptBindToken = sessionStorage.getItem(BIND_TOKEN);
  if (answer.ok && answer.data.token) {
    enter(answer.data);
  } else if (answer.ok && answer.data.access_token) {
    showBindForm(answer.data.access_token);
  } else if (answer.data.code === "code_invalid" && keptBindToken) {
    // A reload: the code is long past, but the form need not be.
    showBindForm(keptBindToken);
  } else {
    showFailure(answer);
  }
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function showBindForm(bindToken) {
  sessionStorage.setItem(BIND_TOKEN, bindToken);
  byId("status").dataset.state = "bind";
  byId("status").hidden = true;
  byId("bind").hidden = false;
  byId("bind-heading").focus();
  document.title = "绑定手机号 · 美多商城";
  openBindForm(bindToken, {
    onBound: enter,
    onEnd(answer) {
      sessionStorage.removeItem(BIND_TOKEN);
      showFailure(answer);
    },
  });
}

function enter(data) {
  show("done");
  storeLogin(data);
  forgetFlow();
  go(data.next);
}

async function restart() {
  show("leaving");
  // In direct mode `state` is QQ's and not a path: then the shopper lands on the front page.
  const answer = await askLoginAddress(query.get("state"));
  if (answer.ok) {
    forgetFlow();
    location.replace(answer.data.login_url);
    return;
  }
  showFailure(answer);
  byId("again").dataset.step = "restart";
}

function takeStep() {
  const { step } = byId("again").dataset;
  if (step === "login") location.replace(byId("other-way").href);
  // An error that came on the address has no call to repeat.
  else if (step === "restart" || query.has("error")) restart();
  else finishLogin();
}

function start() {
  query = takeQuery();
  byId("other-way").search = new URLSearchParams({ next: shopPath(query.get("state")) });
  const error = query.get("error");
  if (faces[error]?.step) show(error);
  else if (query.toString()) finishLogin();
  else show("nothing");
}

byId("again").addEventListener("click", takeStep);
try {
  start();
} catch (error) {
  // A browser that keeps no cookies for this site throws at the first touch of sessionStorage.
  show("storage_blocked");
  throw error;
}
