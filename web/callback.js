import { call, describeWait, fetchLoginURL } from "./api.js";
import { setUpBindForm } from "./bind.js";
import { faces, repeatingText, slowText, steps } from "./faces.js";
import { cleanPath, go, leave, recall, remember, replaceValues, sleep, started, takeQuery } from "./page.js";
import { findLoginOf, isForbidden, read, remove, storeLogin, write } from "./storage.js";

const MAX_REPEATS = 5;
const MIN_SHOWN_WAIT = 5; // seconds; a shorter wait ends before its text can be read
const MAX_WAIT = 60; // seconds; after a longer wait the code has expired
const USUAL_TIME = 8; // seconds
const REFUSED_KEY = "qq_refused"; // in the browser's storage: when a login's cookie was missing
const IN_A_ROW = 10 * 60 * 1000; // milliseconds
const FACE_BY_STATUS = { 0: "network", 429: "throttled" };

const byId = (id) => document.getElementById(id);
let query = new URLSearchParams(); // what QQ, or callback/, has added to the page's address
let target = null; // `state` of the query: the page to return to or, in direct mode, a random value
let login = null; // the data of a finished login

function show(state, { text = faces[state].text, step = faces[state].step, retryAfter } = {}) {
  const { heading } = faces[state];
  byId("status").dataset.state = state;
  byId("status").hidden = false;
  byId("bind").hidden = true;
  [byId("status-heading").textContent, byId("status-heading-en").textContent] = heading;
  [byId("status-text").textContent, byId("status-text-en").textContent] = text;
  byId("status-wait").textContent = retryAfter > MIN_SHOWN_WAIT ? describeWait(retryAfter) : "";
  byId("status-steps").hidden = !step;
  byId("status").classList.toggle("is-moving", !step && state !== "done");
  document.title = `${heading[0]} · 美多商城`;
  if (!step) return;
  [byId("again-label").textContent, byId("again-label-en").textContent] = steps[step];
  byId("again").dataset.step = step;
  byId("other-way").hidden = ["login", "store", "go"].includes(step);
  byId("status-heading").focus();
}

/** Show why a login has ended or has to wait. `answer`: the API's answer, if the code comes from one. */
function showFailure(code, { data = {}, status = null, retryAfter } = {}) {
  const next = ["state_used", "code_invalid"].includes(code) && findLoginOf(target);
  if (next) { // this page has been opened again, after its login
    leaveFor(next);
    return;
  }
  let state = code in faces ? code : FACE_BY_STATUS[status] ?? "failure";
  let text = data.message ? [data.message, ""] : faces[state].text;
  if (["state_invalid", "code_invalid"].includes(code) && isInARow()) {
    state = "cookies_missing";
    ({ text } = faces[state]);
  }
  // What is over is not shown again after a reload, nor by the page's bare address.
  if (faces[state].step !== "repeat" || query.has("error")) forgetFlow();
  show(state, { text, retryAfter });
}

/** Note that this login's cookie was missing. Return whether that happens again and again. */
function isInARow() {
  const last = Number(read(REFUSED_KEY));
  const isNoted = write({ [REFUSED_KEY]: Date.now() });
  return !isNoted || isForbidden() || Date.now() - last < IN_A_ROW;
}

function forgetFlow() {
  replaceValues({ target });
}

async function finishLogin() {
  show("waiting");
  const slow = setTimeout(() => show("waiting", { text: slowText }), USUAL_TIME * 1000);
  // Send the whole query: if QQ redirects directly to this page, the API needs `state` as well as the code.
  const fetchOutcome = () => call(`/oauth/qq/users/?${query}`, { withCookies: true });
  let answer = await fetchOutcome();
  clearTimeout(slow);
  for (let repeats = 0; answer.data.code === "qq_busy" && repeats < MAX_REPEATS; repeats++) {
    const wait = answer.retryAfter ?? 1;
    if (wait > MAX_WAIT) break;
    show("qq_busy", { text: repeatingText, step: null, retryAfter: wait });
    // Add up to two seconds at random, so that clients rejected together do not all return together.
    await sleep(wait + 2 * Math.random());
    answer = await fetchOutcome();
  }

  const { token, access_token: bindToken, code } = answer.data;
  if (answer.ok && token) await completeLogin(answer.data);
  else if (answer.ok && bindToken) showBindForm(bindToken);
  // After a reload the code may have expired while the bind token is still valid.
  else if (code === "code_invalid" && recall("bindToken")) showBindForm(recall("bindToken"));
  else showFailure(code, answer);
}

function showBindForm(bindToken) {
  remove([REFUSED_KEY]);
  remember({ bindToken });
  byId("status").dataset.state = "bind";
  byId("status").hidden = true;
  byId("bind").hidden = false;
  byId("bind-heading").focus();
  document.title = "绑定手机号 · 美多商城";
  setUpBindForm(bindToken, {
    onBound: completeLogin,
    onFinalError: (answer) => showFailure(answer.data.code, answer),
  });
}

async function completeLogin(data) {
  login = data;
  remove([REFUSED_KEY]);
  const problem = storeLogin(data, target);
  if (problem) {
    show(problem);
    return;
  }
  await leaveFor(data.next);
}

async function leaveFor(next) {
  login ??= { next };
  show("done");
  forgetFlow();
  await go(next);
  show("not_gone");
}

async function restart() {
  show("leaving");
  const answer = await fetchLoginURL(target); // a random value becomes the front page
  if (answer.ok) {
    forgetFlow();
    await leave(answer.data.login_url);
    show("qq_not_opened");
    return;
  }
  showFailure(answer.data.code, answer);
  byId("again").dataset.step = "restart";
}

async function takeStep() {
  const { step } = byId("again").dataset;
  if (step === "login") await leave(byId("other-way").href);
  else if (step === "go") await leaveFor(login?.next);
  else if (step === "store" && login) await storeAgain();
  // An error in the page's address has no call to repeat.
  else if (step !== "repeat" || query.has("error")) await restart();
  else await finishLogin();
}

async function storeAgain() {
  await completeLogin(login);
  // A page that was opened while storage was forbidden may have to be opened again to see that it is allowed now.
  if (isForbidden()) location.reload();
}

async function start() {
  query = takeQuery();
  target = query.get("state") ?? recall("target") ?? null;
  byId("other-way").search = new URLSearchParams({ next: cleanPath(target) });
  const error = query.get("error");
  if (faces[error]?.step) showFailure(error);
  else if (query.toString()) await finishLogin();
  else show("nothing");
}

async function run(action) {
  try {
    await action();
  } catch (error) { // a bug, or a browser that lacks something: nobody may wait forever
    show("failure");
    throw error;
  }
}

byId("again").addEventListener("click", () => run(takeStep));
run(start);
started();
