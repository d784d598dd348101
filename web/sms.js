import { API, call } from "./api.js";
import { areFilled, clearFieldError, showErrors, showFieldError, whileSending } from "./form.js";
import { showText } from "./language.js";
import { recall, remember } from "./page.js";
import { resend, texts } from "./texts.js";

// The shop sends at most one SMS per number in this time.
const SMS_PAUSE = 60; // seconds

const [mobile, imageCode, smsCode] = ["mobile", "image-code", "sms-code"].map((id) => document.getElementById(id));
const picture = document.getElementById("image-code-picture");
const sendSMS = document.getElementById("send-sms");
const smsSent = document.getElementById("sms-sent");
let imageCodeId = null; // null: there is no picture, or it is used up
// The last request: for this many seconds, until `end` (milliseconds), the shop sends no other SMS to the number.
let request = { number: "", seconds: 0, end: 0, isSent: false };

/** Set up the fields of a form that request an SMS: number, picture, button. A reload keeps number and wait. */
export function setUpSMS(form) {
  mobile.value = recall("mobile") ?? mobile.value;
  request = recall("sms") ?? request;
  mobile.addEventListener("input", () => {
    remember({ mobile: mobile.value });
    showWait();
  });
  document.getElementById("image-code-renew").addEventListener("click", () => {
    clearFieldError(imageCode);
    renewPicture();
  });
  picture.addEventListener("error", () => {
    showFieldError(imageCode, texts.pictureFailed);
  });
  sendSMS.addEventListener("click", () => requestSMS(form));
  imageCode.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // Enter requests the SMS instead of sending the form
    sendSMS.click();
  });
  setInterval(showWait, 1000);
  showWait();
}

// Accept full-width digits from Chinese keyboards, and numbers from address books such as "+86 138 0013 8000".
const readDigits = (input) => input.value.normalize("NFKC").replace(/[^0-9]/g, "");
export const readMobile = () => readDigits(mobile).replace(/^86(?=1\d{10}$)/, "");
export const readSMSCode = () => readDigits(smsCode);

async function requestSMS(form) {
  clearFieldError(mobile);
  clearFieldError(imageCode);
  const number = readMobile();
  if (!/^1[3-9]\d{9}$/.test(number)) {
    showFieldError(mobile, texts.mobileWrong);
    mobile.focus();
    return;
  }
  if (!areFilled([imageCode])) return;
  let answer;
  await whileSending(sendSMS, async () => {
    const search = new URLSearchParams({ text: imageCode.value.trim(), image_code_id: imageCodeId });
    answer = await call(`/sms_codes/${number}/?${search}`);
  });
  imageCodeId = null; // every check uses up its picture
  if (answer.ok) {
    clearFieldError(smsCode);
    smsCode.value = ""; // the previous code is no longer valid
    startWait(number, SMS_PAUSE, true);
    smsCode.focus();
  } else {
    renewPicture();
    showErrors(form, answer, imageCode);
    if (answer.status === 429) startWait(number, answer.retryAfter ?? SMS_PAUSE, isSentTo(number));
  }
}

const isSentTo = (number) => request.isSent && request.number === number;

function startWait(number, seconds, isSent) {
  request = { number, seconds, end: Date.now() + seconds * 1000, isSent };
  remember({ sms: request });
  showWait();
}

/** Return what to say where the SMS code is missing. */
export const getSMSCodeMissing = () => (isSentTo(readMobile()) ? texts.fillIn : texts.askForSMS);

/** Show how long the number in the form has to wait: the wait applies to one number. */
export function showWait() {
  if (sendSMS.closest("[hidden]")) return; // the form does without
  if (sendSMS.getAttribute("aria-busy") === "true") return;
  const number = readMobile();
  // Compare with the clock: timers pause while the user is in another app reading the SMS.
  let remaining = request.number === number ? Math.ceil((request.end - Date.now()) / 1000) : 0;
  if (remaining > request.seconds + 1) remaining = 0; // the clock was put back; the shop knows how long to wait
  showText(sendSMS, remaining > 0 ? resend(remaining) : texts.sendSMS);
  sendSMS.disabled = remaining > 0;
  showText(smsSent, remaining > 0 && request.isSent ? texts.smsSent : null);
  if (remaining <= 0 && imageCodeId === null) renewPicture(); // not before one is needed
}

function renewPicture() {
  imageCodeId = makeUUID();
  imageCode.value = "";
  picture.src = `${API}/image_codes/${imageCodeId}/`;
}

// crypto.randomUUID does not exist on plain http, which development and old shops use.
function makeUUID() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
