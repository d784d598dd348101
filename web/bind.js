import { call } from "./api.js";
import { areFilled, clearErrors, clearErrorsWhileTyping, setSending, setUpPasswordToggle, showErrors } from "./form.js";
import { readMobile, readSMSCode, setUpSMS } from "./sms.js";

// After these no further try with this bind token can succeed.
const END_CODES = ["bind_token_missing", "bind_token_invalid", "bind_tries", "already_bound"];

// What is typed here outlives a reload: a phone that went to read the SMS may load the page anew on return.
export const MOBILE = "qq_mobile";

const form = document.getElementById("bind-form");
const [mobile, smsCode, password] = ["mobile", "sms-code", "password"].map((id) => document.getElementById(id));
const submit = document.getElementById("bind-submit");

/** Show the form. `onBound` gets the login answer; `onEnd` the answer after which only a new login helps. */
export function openBindForm(bindToken, { onBound, onEnd }) {
  mobile.value = sessionStorage.getItem(MOBILE) ?? mobile.value;
  mobile.addEventListener("input", () => sessionStorage.setItem(MOBILE, mobile.value));
  setUpSMS(form);
  setUpPasswordToggle(document.getElementById("toggle-password"), password);
  clearErrorsWhileTyping(form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearErrors(form);
    if (!areFilled([mobile, smsCode, password])) return;
    setSending(submit, true);
    const answer = await call("/oauth/qq/users/", { method: "POST", body: readForm(bindToken), withCookies: true });
    if (answer.ok && answer.data.token) {
      onBound(answer.data);
      return;
    }
    setSending(submit, false);
    if (END_CODES.includes(answer.data.code)) onEnd(answer);
    else showErrors(form, answer);
  });
}

function readForm(bindToken) {
  return {
    mobile: readMobile(),
    password: password.value,
    sms_code: readSMSCode(),
    access_token: bindToken,
  };
}
