import { call, sendForm } from "./api.js";
import { showAvatar } from "./avatar.js";
import { areFilled, clearErrors, clearErrorsOnChange, setUpPasswordToggle, showErrors, whileSending } from "./form.js";
import { setTitle, showText } from "./language.js";
import { askFor, askForOneOf, getInputs, getTextsIfEmpty, readProof, showMobileHint } from "./proof.js";
import { setUpSMS } from "./sms.js";
import { storedToken } from "./storage.js";
import { greeting, texts, timeLeft } from "./texts.js";

// After these errors no further try with this bind token can succeed.
const FINAL_CODES = ["bind_token_missing", "bind_token_invalid", "bind_tries", "already_bound", "not_authenticated"];
const ALL_FIELDS = ["mobile", "password", "sms_code"];
const LIFE = 10 * 60 * 1000; // milliseconds: a bind token's

const byId = (id) => document.getElementById(id);
const form = byId("bind-form");
const submit = byId("bind-submit");

export const makeEnd = () => Date.now() + LIFE;

/**
 * Set up the form. `offer`: `{bindToken, fields, nickname, avatar, end}`, what the API has offered, and until when.
 * `isLinking`: the user is signed in, and adds the QQ. `onBound` gets the data of the login or the binding;
 * `onFinalError` an answer that needs a new login; `onExpired` nothing.
 */
export function setUpBindForm(offer, { isLinking, onBound, onFinalError, onExpired }) {
  const send = isLinking ? sendLink : sendBind;
  const fields = offer.fields ?? (isLinking ? ["password"] : ALL_FIELDS);
  greet(offer, isLinking);
  setUpSMS(form);
  if (isLinking) {
    askForOneOf(fields);
    call("/user/", { token: storedToken() }).then(({ data }) => showMobileHint(data.mobile));
  } else {
    askFor(fields);
  }
  byId("bind-notes").hidden = isLinking;
  byId("password-hint").hidden = isLinking;
  byId("forgot").hidden = !fields.includes("password");
  setUpPasswordToggle(byId("toggle-password"), byId("password"));
  clearErrorsOnChange(form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearErrors(form);
    if (!areFilled(getInputs(), getTextsIfEmpty())) return;
    whileSending(submit, async () => {
      const answer = await send({ ...readProof(), access_token: offer.bindToken });
      if (answer.ok) await onBound(answer.data);
      else if (FINAL_CODES.includes(answer.data.code)) onFinalError(answer);
      else showErrors(form, answer);
    });
  });
  countDown(offer.end, onExpired);
}

const sendBind = (body) => sendForm("/oauth/qq/users/", body, { withCookies: true });

const sendLink = (body) => call("/oauth/qq/bindings/", {
  method: "POST", body, token: storedToken(), withCookies: true,
});

function greet({ nickname, avatar }, isLinking) {
  const heading = isLinking ? texts.add : texts.bind;
  showText(byId("bind-heading"), heading);
  setTitle(heading);
  const greetingText = isLinking ? texts.addConfirmed : texts.confirmed;
  showText(byId("bind-greeting"), nickname ? greeting(nickname) : greetingText);
  showText(submit, isLinking ? texts.addSubmit : texts.bindSubmit);
  showText(byId("bind-other-way"), isLinking ? texts.backToAccount : texts.otherWay);
  showAvatar(byId("qq-avatar"), byId("qq-initial"), { nickname, avatar });
}

/** Show how long the form is valid. Compare with the clock: timers pause while the user is in another app. */
function countDown(end, onExpired) {
  const timer = setInterval(tick, 1000);
  function tick() {
    const remaining = Math.ceil((end - Date.now()) / 1000);
    if (byId("bind").hidden) {
      clearInterval(timer);
    } else if (remaining > 0) {
      showText(byId("bind-time"), timeLeft(Math.min(remaining, LIFE / 1000)));
    } else if (submit.getAttribute("aria-busy") !== "true") { // the answer to a form that is under way comes first
      clearInterval(timer);
      onExpired();
    }
  }
  tick();
}
