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
let slowTimer = null;

function show(state, { text = faces[state].text, step = faces[state].step, retryAfter } = {}) {
  clearTimeout(slowTimer);
  const { heading } = faces[state];
  byId("status").dataset.state = state;
  byId("status").hidden = false;
  byId("bind").hidden = true;
  [byId("status-heading").textContent, byId("status-heading-en").textContent] = heading;
  [byId("status-text").textContent, byId("status-text-en").textContent] = text;
  byId("status-wait").textContent = retryAfter > MIN_SHOWN_WAIT ? describeWait(retryAfter) : "";
  byId("status-steps").hidden = !step;
  byId("again").hidden = !step;
  byId("status").classList.toggle("is-moving", !step && state !== "done");
  document.title = `${heading[0]} · 美多商城`;
  if (!step) return;
  [byId("again-label").textContent, byId("again-label-en").textContent] = steps[step];
  byId("again").dataset.step = step;
  byId("other-way").hidden = ["login", "store", "go"].includes(step);
  byId("status-heading").focus();
}

/** Show that something is under way. If it takes long, offer to leave. */
function showProgress(state) {
  show(state);
  slowTimer = setTimeout(() => {
    show(state, { text: slowText });
    offerOtherWay();
  }, USUAL_TIME * 1000);
}

function offerOtherWay() {
  byId("other-way").hidden = false;
  byId("status-steps").hidden = false;
}

/**
 * Show why a login has ended or has to wait. `answer`: the API's answer, if the code comes from one. `isFirst`: the code
 * is the first thing known of this login. `canRepeat`: it comes from a call that may be repeated.
 */
function showFailure(code, { data = {}, status = null, retryAfter } = {}, { isFirst, canRepeat } = {}) {
  const next = ["state_used", "code_invalid"].includes(code) && findLoginOf(target);
  if (next) { // this page has been opened again, after its login
    leaveFor(next);
    return;
  }
  const isKnown = Boolean(faces[code]?.step);
  let state = isKnown ? code : FACE_BY_STATUS[status] ?? "failure";
  if (["state_invalid", "code_invalid"].includes(code) && isFirst && isInARow()) state = "cookies_missing";
  if (code === "code_missing" && (query.get("error") ?? code) !== code) state = "failure"; // of a newer shop, or not ours
  const face = faces[state];
  let { text, step } = face;
  if (data.message && !isKnown) text = [data.message, text[1]];
  // What is over is not shown again after a reload, nor by the page's bare address.
  if (step !== "repeat" || query.has("error")) forgetFlow();
  if (step === "repeat" && (!canRepeat || (face.repeated && recall("hasFailed")))) {
    step = "restart";
    if (canRepeat) text = face.repeated;
  }
  if (canRepeat && face.repeated) remember({ hasFailed: true });
  show(state, { text, step, retryAfter });
}

/** Note that this login's cookie was missing. Return whether that happens again and again. */
function isInARow() {
  const last = Number(read(REFUSED_KEY));
  const isNoted = write({ [REFUSED_KEY]: Date.now() });
  return !isNoted || isForbidden() || Math.abs(Date.now() - last) < IN_A_ROW; // the clock may have been changed
}

function forgetFlow() {
  replaceValues({ target });
}

async function finishLogin() {
  // Later on, a refused code has expired, or the answer to an earlier call was lost.
  const isFirst = !recall("hasCalled");
  remember({ hasCalled: true });
  showProgress("waiting");
  // Send the whole query: if QQ redirects directly to this page, the API needs `state` as well as the code.
  const fetchOutcome = () => call(`/oauth/qq/users/?${query}`, { withCookies: true });
  let answer = await fetchOutcome();
  for (let repeats = 0; answer.data.code === "qq_busy" && repeats < MAX_REPEATS; repeats++) {
    const wait = answer.retryAfter ?? 1;
    if (wait > MAX_WAIT) break;
    show("qq_busy", { text: repeatingText, step: null, retryAfter: wait });
    offerOtherWay();
    // Add up to two seconds at random, so that clients rejected together do not all return together.
    await sleep(wait + 2 * Math.random());
    answer = await fetchOutcome();
  }

  const { token, access_token: bindToken, code } = answer.data;
  if (answer.ok && token) await completeLogin(answer.data);
  else if (answer.ok && bindToken) showBindForm(bindToken);
  // After a reload the code may have expired while the bind token is still valid.
  else if (code === "code_invalid" && recall("bindToken")) showBindForm(recall("bindToken"));
  else showFailure(code, answer, { isFirst, canRepeat: !query.has("error") });
}

function showBindForm(bindToken) {
  clearTimeout(slowTimer);
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
  showProgress("leaving");
  const answer = await fetchLoginURL(target); // a random value becomes the front page
  if (answer.ok) {
    forgetFlow();
    await leave(answer.data.login_url);
    show("qq_not_opened");
    return;
  }
  showFailure(answer.data.code, answer);
}

async function takeStep() {
  const { step } = byId("again").dataset;
  if (step === "login") await leave(byId("other-way").href);
  else if (step === "go") await leaveFor(login?.next);
  else if (step === "store" && login) await storeAgain();
  else if (step === "restart") await restart();
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
  for (const id of ["other-way", "bind-other-way"]) byId(id).search = new URLSearchParams({ next: cleanPath(target) });
  const error = query.get("error");
  if (faces[error]?.step) showFailure(error, {}, { isFirst: true });
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
