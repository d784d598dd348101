import { API, call } from "./api.js";
import { areFilled, clearFieldError, setSending, showErrors, showFieldError } from "./form.js";

// The shop sends at most one SMS per number in this time.
const SMS_PAUSE = 60; // seconds

const [mobile, imageCode, smsCode] = ["mobile", "image-code", "sms-code"].map((id) => document.getElementById(id));
const picture = document.getElementById("image-code-picture");
const sendSMS = document.getElementById("send-sms");
const sendSMSLabel = document.getElementById("send-sms-label");
const smsSent = document.getElementById("sms-sent");
let imageCodeId;
let stopCountdown = () => {};

/** Set up the fields of a form that request an SMS: number, picture, button. */
export function setUpSMS(form) {
  renewPicture();
  document.getElementById("image-code-renew").addEventListener("click", renewPicture);
  picture.addEventListener("error", () => {
    showFieldError(imageCode, "图形没有加载出来，点一下再试。The picture did not load: click it to try again.");
  });
  sendSMS.addEventListener("click", () => requestSMS(form));
  imageCode.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // Enter requests the SMS instead of sending the form
    sendSMS.click();
  });
}

// Accept full-width digits from Chinese keyboards, and numbers from address books such as "+86 138 0013 8000".
const readDigits = (input) => input.value.normalize("NFKC").replace(/[^0-9]/g, "");
export const readMobile = () => readDigits(mobile).replace(/^86(?=1\d{10}$)/, "");
export const readSMSCode = () => readDigits(smsCode);

async function requestSMS(form) {
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
    smsCode.value = ""; // the previous code is no longer valid
    smsSent.textContent = "短信已发送，请查收。The SMS is on its way.";
    smsCode.focus();
    startCountdown(SMS_PAUSE);
  } else {
    showErrors(form, answer, imageCode);
    renewPicture(); // every check uses up its picture
    if (answer.status === 429) startCountdown(answer.retryAfter ?? SMS_PAUSE);
  }
}

/** Disable the button for some seconds, or until another number is typed: the wait applies to one number. */
function startCountdown(seconds) {
  stopCountdown();
  // Compare with the clock: timers pause while the user is in another app reading the SMS.
  const end = Date.now() + seconds * 1000;
  const number = readMobile();
  const english = sendSMS.querySelector(".en");
  const labels = [sendSMSLabel.textContent, english.textContent];
  sendSMS.disabled = true;
  const update = () => {
    const remaining = Math.ceil((end - Date.now()) / 1000);
    if (remaining <= 0) {
      stopCountdown();
      renewPicture();
    } else if (remaining < 90) {
      [sendSMSLabel.textContent, english.textContent] = [`${remaining} 秒后重发`, `again in ${remaining} s`];
    } else {
      const minutes = Math.ceil(remaining / 60);
      [sendSMSLabel.textContent, english.textContent] = [`${minutes} 分钟后重发`, `again in ${minutes} min`];
    }
  };
  const stopIfNumberChanged = () => {
    if (readMobile() !== number) stopCountdown();
  };
  const timer = setInterval(update, 1000);
  mobile.addEventListener("input", stopIfNumberChanged);
  stopCountdown = () => {
    clearInterval(timer);
    mobile.removeEventListener("input", stopIfNumberChanged);
    [sendSMSLabel.textContent, english.textContent] = labels;
    sendSMS.disabled = false;
    smsSent.textContent = "";
    stopCountdown = () => {};
  };
  update();
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
