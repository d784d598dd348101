import { call, fetchLoginURL, takeEarlyCall } from "./api.js";
import { makeEnd, setUpBindForm } from "./bind.js";
import { faces, getFace, linkingSteps, repeatingText, slowText, steps } from "./faces.js";
import { fromAPI, setTitle, showText } from "./language.js";
import {
  ACCOUNT_PAGE, AFTER_LINKING, cleanPath, go, leave, recall, remember, replaceValues, sleep, started, takeQuery,
} from "./page.js";
import { findLoginOf, forgetLogin, isForbidden, read, remove, storedToken, storeLogin, write } from "./storage.js";
import { texts, wait } from "./texts.js";

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
let next = null; // `next` of the API's answer, if it offers the form
let login = null; // the data of a finished login
let slowTimer = null;

// Whether a user who is signed in adds a QQ. In direct mode only the answer tells: an error before it ends in a login.
const isLinking = () => [target, next].includes(AFTER_LINKING);

function show(state, { text, step, retryAfter } = {}) {
  clearTimeout(slowTimer);
  const face = { ...getFace(state, isLinking()), ...(text && { text }), ...(step !== undefined && { step }) };
  byId("status").dataset.state = state;
  byId("status").hidden = false;
  byId("bind").hidden = true;
  showText(byId("status-heading"), face.heading);
  showText(byId("status-text"), face.text);
  showText(byId("status-wait"), retryAfter > MIN_SHOWN_WAIT ? wait(retryAfter) : null);
  byId("status-steps").hidden = !face.step;
  byId("again").hidden = !face.step;
  byId("status").classList.toggle("is-moving", !face.step && state !== "done");
  setTitle(face.heading);
  showOtherWay();
  if (!face.step) return;
  showText(byId("again"), (isLinking() ? linkingSteps : steps)[face.step]);
  byId("again").dataset.step = face.step;
  byId("other-way").hidden = ["login", "store", "go"].includes(face.step);
  byId("status-heading").focus();
}

function showOtherWay() {
  for (const id of ["other-way", "bind-other-way"]) {
    const link = byId(id);
    link.href = isLinking() ? "account.html" : `login.html?${new URLSearchParams({ next: cleanPath(target) })}`;
    showText(link, isLinking() ? texts.backToAccount : texts.otherWay);
  }
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
 * Show why a login has ended or has to wait. `answer`: the API's answer, if the code comes from one. `isFirst`: the
 * code is the first thing known of this login. `canRepeat`: it comes from a call that may be repeated.
 */
function showFailure(code, answer = {}, { isFirst, canRepeat } = {}) {
  const { data = {}, status = null, retryAfter, language } = answer;
  const end = !isLinking() && ["state_used", "code_invalid"].includes(code) && findLoginOf(target);
  if (end) { // this page has been opened again, after its login
    leaveFor(end);
    return;
  }
  const isKnown = Boolean(faces[code]?.step);
  if (code === "not_authenticated") forgetLogin();
  let state = isKnown ? code : FACE_BY_STATUS[status] ?? "failure";
  if (["state_invalid", "code_invalid"].includes(code) && isFirst && isInARow()) state = "cookies_missing";
  // The error is one of a newer shop, or not ours.
  if (code === "code_missing" && (query.get("error") ?? code) !== code) state = "failure";
  if (code === "already_bound" && data.account) state = data.account === "this" ? "bound_here" : "bound_elsewhere";
  const face = getFace(state, isLinking());
  let { text, step } = face;
  if (data.message && !isKnown) text = fromAPI(data.message, language, text);
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
  const early = takeEarlyCall();
  const isFirst = Boolean(early) || !recall("hasCalled");
  remember({ hasCalled: true });
  showProgress("waiting");
  // Send the whole query: if QQ redirects directly to this page, the API needs `state` as well as the code.
  const token = isLinking() ? storedToken() : null;
  const fetchOutcome = (options) => call(`/oauth/qq/users/?${query}`, { withCookies: true, token, ...options });
  let answer = await fetchOutcome({ early });
  for (let repeats = 0; answer.data.code === "qq_busy" && repeats < MAX_REPEATS; repeats++) {
    const wait = answer.retryAfter ?? 1;
    if (wait > MAX_WAIT) break;
    show("qq_busy", { text: repeatingText, step: null, retryAfter: wait });
    offerOtherWay();
    // Add up to two seconds at random, so that clients rejected together do not all return together.
    await sleep(wait + 2 * Math.random());
    answer = await fetchOutcome();
  }

  const { token: loginToken, access_token: bindToken, code } = answer.data;
  if (answer.ok && loginToken) await completeLogin(answer.data);
  else if (answer.ok && bindToken) offerForm(answer.data);
  // After a reload the code may have expired while the bind token is still valid.
  else if (code === "code_invalid" && recall("offer")) showBindForm(recall("offer"));
  else showFailure(code, answer, { isFirst, canRepeat: !query.has("error") });
}

/** Show the form for what the API offers. After a reload its time goes on, though the new bind token lives longer. */
function offerForm({ access_token: bindToken, ...data }) {
  const offer = { ...data, bindToken, end: recall("offer")?.end ?? makeEnd() };
  remember({ offer });
  showBindForm(offer);
}

function showBindForm(offer) {
  clearTimeout(slowTimer);
  next = offer.next ?? null;
  remove([REFUSED_KEY]);
  byId("status").dataset.state = "bind";
  byId("status").hidden = true;
  byId("bind").hidden = false;
  showOtherWay();
  setUpBindForm(offer, {
    isLinking: isLinking(),
    onBound: isLinking() ? () => leaveFor(AFTER_LINKING) : completeLogin,
    onFinalError: (answer) => showFailure(answer.data.code, answer),
    onExpired: () => showFailure("bind_token_invalid"),
  });
  byId("bind-heading").focus();
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

async function leaveFor(path) {
  login ??= { next: path };
  show("done");
  forgetFlow();
  await go(path);
  show("not_gone");
}

async function restart() {
  showProgress("leaving");
  // A random value becomes the front page.
  const answer = await fetchLoginURL(target, { isLinking: isLinking() });
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
  else if (step === "sign_in") await leave(`login.html?${new URLSearchParams({ next: ACCOUNT_PAGE })}`);
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
  const error = query.get("error");
  if (faces[error]?.step) showFailure(error, {}, { isFirst: true });
  else if (query.toString() && isLinking() && !storedToken()) showFailure("not_authenticated");
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
