import { API, call } from "./api.js";
import {
  areFilled,
  clearErrors,
  clearErrorsWhileTyping,
  clearFieldError,
  setSending,
  setUpPasswordToggle,
  showErrors,
  showFieldError,
} from "./form.js";

// After these no further try with this bind token can succeed.
const END_CODES = ["bind_token_missing", "bind_token_invalid", "bind_tries", "already_bound"];
// The shop sends no second SMS to one number sooner.
const SMS_PAUSE = 60_000;

// What is typed here outlives a reload: a phone that went to read the SMS may load the page anew on return.
export const MOBILE = "qq_mobile";

const form = document.getElementById("bind-form");
const [mobile, imageCode, smsCode, password] = ["mobile", "image-code", "sms-code", "password"].map((id) =>
  document.getElementById(id),
);
const picture = document.getElementById("image-code-picture");
const sendSMS = document.getElementById("send-sms");
const sendSMSLabel = document.getElementById("send-sms-label");
const smsSent = document.getElementById("sms-sent");
const submit = document.getElementById("bind-submit");
let imageCodeId;

/** Show the form. `onBound` gets the login answer; `onEnd` the answer after which only a new login helps. */
export function openBindForm(bindToken, { onBound, onEnd }) {
  renewPicture();
  mobile.value = sessionStorage.getItem(MOBILE) ?? mobile.value;
  mobile.addEventListener("input", () => sessionStorage.setItem(MOBILE, mobile.value));
  document.getElementById("image-code-renew").addEventListener("click", renewPicture);
  picture.addEventListener("error", () => {
    showFieldError(imageCode, "图形没有加载出来，点一下再试。The picture did not load: click it to try again.");
  });
  sendSMS.addEventListener("click", requestSMS);
  imageCode.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // the SMS is the next step here, not the whole form
    sendSMS.click();
  });
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
    sms_code: readDigits(smsCode),
    access_token: bindToken,
  };
}

// Chinese keyboards type full-width digits, and address books fill in "+86 138 0013 8000".
const readDigits = (input) => input.value.normalize("NFKC").replace(/[^0-9]/g, "");
const readMobile = () => readDigits(mobile).replace(/^86(?=1\d{10}$)/, "");

async function requestSMS() {
  clearFieldError(mobile);
  clearFieldError(imageCode);
  if (!/^1[3-9]\d{9}$/.test(readMobile())) {
    showFieldError(mobile, "请填写 11 位手机号。Please enter a mobile number of 11 digits.");
    mobile.focus();
    return;
  }
  if (!areFilled([imageCode])) return;
  setSending(sendSMS, true);
  const search = new URLSearchParams({ text: imageCode.value.trim(), image_code_id: imageCodeId });
  const answer = await call(`/sms_codes/${readMobile()}/?${search}`);
  setSending(sendSMS, false);
  if (answer.ok) {
    clearFieldError(smsCode);
    smsCode.value = ""; // the code of before is dead
    smsSent.textContent = "短信已发送，请查收。The SMS is on its way.";
    smsCode.focus();
    countDown();
  } else {
    showErrors(form, answer, imageCode);
    renewPicture(); // any check uses a picture up
  }
}

function countDown() {
  // Measured by the clock, because timers stand still while the shopper is away reading the SMS.
  const end = Date.now() + SMS_PAUSE;
  const english = sendSMS.querySelector(".en");
  const labels = [sendSMSLabel.textContent, english.textContent];
  sendSMS.disabled = true;
  const tick = () => {
    const seconds = Math.ceil((end - Date.now()) / 1000);
    if (seconds > 0) {
      sendSMSLabel.textContent = `${seconds} 秒后重发`;
      english.textContent = `again in ${seconds} s`;
      return;
    }
    clearInterval(timer);
    [sendSMSLabel.textContent, english.textContent] = labels;
    sendSMS.disabled = false;
    smsSent.textContent = "";
    renewPicture();
  };
  const timer = setInterval(tick, 1000);
  tick();
}

function renewPicture() {
  imageCodeId = makeUUID();
  imageCode.value = "";
  picture.src = `${API}/image_codes/${imageCodeId}/`;
}

// crypto.randomUUID is missing on plain http, where development and old shops live.
function makeUUID() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
