import { call, cleanPath, describeWait, fetchLoginURL, go, storeLogin } from "./api.js";
import { MOBILE_KEY, setUpBindForm } from "./bind.js";
import { faces, repeatingText, steps } from "./faces.js";

// Keys of sessionStorage: each tab has its own login, which ends with the tab.
const QUERY_KEY = "qq_query";
const BIND_TOKEN_KEY = "qq_bind_token";
const MAX_REPEATS = 5;
const MIN_SHOWN_WAIT = 5; // seconds; a shorter wait ends before its text can be read

const byId = (id) => document.getElementById(id);
let query = new URLSearchParams();

/**
 * Return the query that this page was opened with. Remove it from the address at once, so that it is not bookmarked,
 * shared or seen by others. Keep it in sessionStorage until the login is done, so that a reload works.
 */
function takeQuery() {
  const { search } = location;
  if (search) {
    history.replaceState(null, "", location.pathname);
    sessionStorage.setItem(QUERY_KEY, search);
    sessionStorage.removeItem(BIND_TOKEN_KEY);
  }
  return new URLSearchParams(sessionStorage.getItem(QUERY_KEY) ?? "");
}

function forgetFlow() {
  for (const key of [QUERY_KEY, BIND_TOKEN_KEY, MOBILE_KEY]) sessionStorage.removeItem(key);
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
  // Send the whole query: if QQ redirects directly to this page, the API needs `state` as well as the code.
  const fetchOutcome = () => call(`/oauth/qq/users/?${query}`, { withCookies: true });
  let answer = await fetchOutcome();
  for (let repeats = 0; answer.data.code === "qq_busy" && repeats < MAX_REPEATS; repeats++) {
    const wait = answer.retryAfter ?? 1;
    show("qq_busy", { text: repeatingText, step: null, retryAfter: wait > MIN_SHOWN_WAIT && wait });
    // Add up to two seconds at random, so that clients rejected together do not all return together.
    await sleep(wait + 2 * Math.random());
    answer = await fetchOutcome();
  }

  const keptBindToken = sessionStorage.getItem(BIND_TOKEN_KEY);
  if (answer.ok && answer.data.token) {
    completeLogin(answer.data);
  } else if (answer.ok && answer.data.access_token) {
    showBindForm(answer.data.access_token);
  } else if (answer.data.code === "code_invalid" && keptBindToken) {
    // After a reload the code may have expired while the bind token is still valid.
    showBindForm(keptBindToken);
  } else {
    showFailure(answer);
  }
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function showBindForm(bindToken) {
  sessionStorage.setItem(BIND_TOKEN_KEY, bindToken);
  byId("status").dataset.state = "bind";
  byId("status").hidden = true;
  byId("bind").hidden = false;
  byId("bind-heading").focus();
  document.title = "绑定手机号 · 美多商城";
  setUpBindForm(bindToken, {
    onBound: completeLogin,
    onFinalError(answer) {
      sessionStorage.removeItem(BIND_TOKEN_KEY);
      showFailure(answer);
    },
  });
}

function completeLogin(data) {
  show("done");
  storeLogin(data);
  forgetFlow();
  go(data.next);
}

async function restart() {
  show("leaving");
  // In direct mode `state` is a random value, not a path: the user then returns to the front page.
  const answer = await fetchLoginURL(query.get("state"));
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
  // An error in the page's address has no call to repeat.
  else if (step === "restart" || query.has("error")) restart();
  else finishLogin();
}

function start() {
  query = takeQuery();
  byId("other-way").search = new URLSearchParams({ next: cleanPath(query.get("state")) });
  const error = query.get("error");
  if (faces[error]?.step) show(error);
  else if (query.toString()) finishLogin();
  else show("nothing");
}

byId("again").addEventListener("click", takeStep);
try {
  start();
} catch (error) {
  // A browser that blocks cookies for this site throws at the first access to sessionStorage.
  show("storage_blocked");
  throw error;
}
