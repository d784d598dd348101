import { describeFailure } from "./api.js";

// An input's `name` is the API's name for it, and `<id>-error` is the line beside it.
const inputsOf = (form) => [...form.querySelectorAll("input[name]")];

export function showFieldError(input, text) {
  input.setAttribute("aria-invalid", "true");
  document.getElementById(`${input.id}-error`).textContent = text;
}

export function clearFieldError(input) {
  input.removeAttribute("aria-invalid");
  document.getElementById(`${input.id}-error`).textContent = "";
}

export function clearErrors(form) {
  inputsOf(form).forEach(clearFieldError);
  document.getElementById("form-message").textContent = "";
}

/**
 * Put the API's errors beside their fields. Where it blames none, its message goes on top, or beside `suspect` if the
 * API refused what was typed.
 */
export function showErrors(form, answer, suspect) {
  const wrong = inputsOf(form).filter((input) => answer.data[input.name]);
  for (const input of wrong) {
    showFieldError(input, [].concat(answer.data[input.name]).join(" "));
  }
  if (!wrong.length && suspect && answer.status === 400) {
    showFieldError(suspect, describeFailure(answer));
    wrong.push(suspect);
  }
  if (wrong.length) {
    wrong[0].focus();
    return;
  }
  // Focused because on a phone the top of the form is out of sight when the button is pressed.
  const message = document.getElementById("form-message");
  message.textContent = describeFailure(answer);
  message.focus();
}

/** Whether all of these inputs are filled in; those that are not say so. */
export function areFilled(inputs) {
  const empty = inputs.filter((input) => !input.value);
  for (const input of empty) showFieldError(input, "请填写这一项。Please fill this in.");
  empty[0]?.focus();
  return empty.length === 0;
}

export function setSending(button, isSending) {
  button.disabled = isSending;
  button.setAttribute("aria-busy", isSending);
}

export function clearErrorsWhileTyping(form) {
  form.addEventListener("input", (event) => {
    if (event.target.getAttribute("aria-invalid")) clearFieldError(event.target);
  });
}

/** A button that shows and hides what is typed in a password field. */
export function setUpPasswordToggle(button, password) {
  button.addEventListener("click", () => {
    const isShown = password.type === "text";
    password.type = isShown ? "password" : "text";
    button.setAttribute("aria-pressed", !isShown);
  });
}
