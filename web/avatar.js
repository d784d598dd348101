/** Show a QQ's avatar, or the first letter of its nickname until it has loaded, and if it does not load. */
export function showAvatar(picture, initial, { nickname, avatar }) {
  initial.textContent = [...(nickname || "Q")].slice(0, 1).join("").toUpperCase();
  picture.addEventListener("load", () => { picture.hidden = false; });
  picture.addEventListener("error", () => { picture.hidden = true; });
  if (/^https:\/\//.test(avatar ?? "")) picture.src = avatar;
}
