import { call, describeFailure } from "./api.js";
import { showText } from "./language.js";
import { started } from "./page.js";
import { forgetLogin, storedToken } from "./storage.js";
import { texts } from "./texts.js";

const byId = (id) => document.getElementById(id);

function show(name) {
  for (const section of document.querySelectorAll("[data-face]")) {
    section.hidden = section.dataset.face !== name;
  }
}

async function showAccount() {
  const token = storedToken();
  if (!token) {
    show("guest");
    return;
  }
  const answer = await call("/user/", { token });
  if (storedToken() !== token) return; // meanwhile the user has logged in or out, here or in another tab
  if (answer.ok && typeof answer.data.username === "string") {
    byId("account-username").textContent = answer.data.username;
    if (answer.data.mobile) byId("account-mobile").textContent = answer.data.mobile;
    else showText(byId("account-mobile"), texts.notGiven);
    byId("account-initial").textContent = [...answer.data.username].slice(0, 1).join("").toUpperCase();
    show("member");
  } else if (answer.status === 401 || answer.status === 403) {
    forgetLogin();
    show("guest");
  } else {
    showText(byId("failure-text"), describeFailure(answer));
    show("failure");
  }
}

byId("logout").addEventListener("click", () => {
  forgetLogin();
  show("guest");
  byId("guest-heading").focus();
});
byId("retry").addEventListener("click", () => {
  show("waiting");
  showAccount();
});

// Also after "back", and when another tab logs in or out.
addEventListener("pageshow", showAccount);
addEventListener("storage", showAccount);
started();
