// The states of the callback page, each with heading, text and next step: Chinese, English.
// Steps: "restart" starts a new QQ login, "repeat" repeats the call, "login" opens the login page, "store" stores the
// login that is in hand once more, "go" opens the shop's page. If a repeat fails again in a face with `repeated`, that
// text is shown and a new login is offered: the shop may have lost this one. `linking`: what differs where a user who
// is signed in adds a QQ. There "login" opens the account page, and "sign_in" the login page.

import { join } from "./language.js";

const ended = ([chinese, english]) => ({
  heading: ["这次登录没有完成", "This login was not completed"],
  text: [
    `${chinese}请在这个浏览器里再点一次 QQ 登录。`,
    `${english} Please click QQ login again in this browser.`,
  ],
  step: "restart",
  linking: {
    heading: ["没有添加成功", "The QQ was not added"],
    text: [`${chinese}请在这个浏览器里再添加一次。`, `${english} Please add it again in this browser.`],
  },
});

const repeated = ["又试了一次，还是不行。请重新用 QQ 登录。", "Another try did not help. Please start again with QQ login."];
const unavailable = {
  heading: ["登录服务暂时不可用", "Login is not available right now"],
  text: ["问题在我们这边。请稍等片刻再试。", "The problem is on our side. Please wait a moment and try again."],
  step: "repeat",
  repeated,
};

export const faces = {
  __proto__: null, // a key may come from the address: "constructor" must not be found

  waiting: {
    heading: ["正在登录…", "Logging you in…"],
    text: ["正在向 QQ 确认，通常只要一两秒。", "Checking with QQ. This usually takes a second or two."],
    linking: { heading: ["正在添加 QQ…", "Adding your QQ…"] },
  },
  leaving: {
    heading: ["正在前往 QQ…", "Going to QQ…"],
    text: ["马上打开 QQ 的登录页面。", "QQ's login page opens in a moment."],
  },
  done: {
    heading: ["登录成功", "You are logged in"],
    text: ["正在回到商城…", "Taking you back to the shop…"],
    linking: { heading: ["已添加", "Added"], text: ["正在回到您的账号…", "Taking you back to your account…"] },
  },
  not_gone: {
    heading: ["登录成功", "You are logged in"],
    text: [
      "商城的页面还没有打开。请检查网络，再点一次。",
      "The shop's page has not opened yet. Please check your connection and press the button once more.",
    ],
    step: "go",
    linking: { heading: ["已添加", "Added"] },
  },
  qq_not_opened: {
    heading: ["QQ 的登录页面没有打开", "QQ's login page has not opened"],
    text: ["请检查网络，再试一次。", "Please check your connection and try again."],
    step: "restart",
  },
  nothing: {
    heading: ["这里没有要完成的登录", "Nothing to do here"],
    text: ["想登录的话，请从登录页开始。", "To log in, please start at the login page."],
    step: "login",
  },

  user_cancelled: {
    heading: ["您取消了 QQ 登录", "QQ login was cancelled"],
    text: ["没关系，可以再来一次，也可以用账号密码登录。", "No problem: try again, or use your password."],
    step: "restart",
    linking: {
      heading: ["您取消了添加", "You cancelled"],
      text: ["没有添加任何 QQ。", "No QQ was added."],
    },
  },
  code_missing: ended(["没有收到 QQ 的登录凭证。", "Nothing came back from QQ."]),
  code_invalid: ended(["登录链接已失效，或者不是在这个浏览器里打开的。", "The login link is no longer valid, or is from another browser."]),
  state_missing: ended(["登录链接不完整。", "The login link is incomplete."]),
  state_invalid: ended(["这次登录不是从这个浏览器开始的，或者时间太久了。", "This login did not begin in this browser, or took too long."]),
  state_used: ended(["登录链接已经用过。", "The login link was used before."]),
  qq_rejected: {
    heading: ["QQ 没有通过这次登录", "QQ did not accept this login"],
    text: ["请再用 QQ 登录一次。", "Please try QQ login once more."],
    step: "restart",
    linking: { text: ["请再添加一次。", "Please add it again."] },
  },
  bind_token_missing: ended(["缺少 QQ 登录的凭证。", "The proof of your QQ login is missing."]),
  bind_token_invalid: ended([
    "QQ 登录的凭证已失效：填写超过了 10 分钟，或者换了浏览器。",
    "The proof of your QQ login is no longer valid: the form took more than 10 minutes, or the browser has changed.",
  ]),
  invalid: ended(["登录请求有误。", "The login request was malformed."]),
  bind_tries: {
    heading: ["试的次数太多了", "Too many tries"],
    text: [
      "为了账号安全，这次绑定已停止。请重新用 QQ 登录。",
      "To protect your account, this attempt was stopped. Please start again with QQ login.",
    ],
    step: "restart",
    linking: {
      text: ["为了账号安全，这次添加已停止。请重新添加。", "To protect your account, this attempt was stopped. Please add the QQ again."],
    },
  },
  already_bound: {
    heading: ["这个 QQ 已经绑定好了", "This QQ is already bound"],
    text: ["再点一次 QQ 登录就能直接进入。", "Click QQ login once more to log in directly."],
    step: "restart",
    linking: {
      text: ["请先登录，看看它是不是您账号里的。", "Please log in to see whether it is in your account."],
      step: "sign_in",
    },
  },
  account_refused: {
    heading: ["这个账号不能用 QQ 登录", "This account cannot use QQ login"],
    text: ["请换一种方式登录，或联系客服。", "Please log in another way, or contact the shop."],
    step: "login",
    linking: {
      heading: ["这个账号不能添加 QQ", "No QQ can be added to this account"],
      text: ["请联系客服。", "Please contact the shop."],
    },
  },
  // Only where a user who is signed in adds a QQ.
  bound_here: {
    heading: ["这个 QQ 已经在您的账号里", "This QQ is in your account already"],
    text: ["不用再添加，可以直接用它登录。", "There is nothing to add: you can log in with it."],
    step: "login",
  },
  bound_elsewhere: {
    heading: ["这个 QQ 绑定了别的账号", "This QQ belongs to another account"],
    text: [
      "请换一个 QQ，或者先用它登录那个账号，在那里解除绑定。",
      "Please choose another QQ, or log in with it to that account and remove it there.",
    ],
    step: "restart",
  },
  not_authenticated: {
    heading: ["请先登录", "Please log in first"],
    text: ["您的登录已经结束。登录以后再添加 QQ。", "Your login has ended. Log in, then add the QQ."],
    step: "sign_in",
  },
  qq_busy: {
    heading: ["现在登录的人有点多", "Many people are logging in"],
    text: ["请稍等片刻，再试一次。", "Please wait a moment and try again."],
    step: "repeat",
  },
  qq_unavailable: {
    heading: ["QQ 暂时没有回应", "QQ is not answering"],
    text: ["请稍等片刻，再用 QQ 登录一次。", "Please wait a moment, then try QQ login again."],
    step: "restart",
    linking: { text: ["请稍等片刻，再添加一次。", "Please wait a moment, then add it again."] },
  },
  qq_misconfigured: {
    heading: ["QQ 登录暂时不可用", "QQ login is not available"],
    text: ["问题在我们这边，正在处理。请先用账号密码登录。", "The problem is on our side. Please log in with your password for now."],
    step: "login",
    linking: { text: ["问题在我们这边，正在处理。", "The problem is on our side. We are working on it."] },
  },
  cache_unavailable: unavailable,
  database_unavailable: unavailable,
  throttled: {
    heading: ["操作太频繁了", "Too many requests"],
    text: ["请稍后再试。", "Please wait a moment and try again."],
    step: "repeat",
  },
  network: {
    heading: ["网络好像断了", "No connection"],
    text: ["没有收到网站的回应。请检查网络，再试一次。", "The shop did not answer. Please check your connection and try again."],
    step: "repeat",
  },
  failure: {
    heading: ["网站暂时出了点问题", "Something went wrong"],
    text: ["请稍后再试一次。", "Please try again in a moment."],
    step: "repeat",
    repeated,
  },
  // The second time in a row that the login's cookie is missing.
  cookies_missing: {
    heading: ["浏览器没有带回登录的 Cookie", "Your browser did not keep this login's cookie"],
    text: [
      "请先用其他方式登录。想用 QQ 的话：允许本站使用 Cookie，关闭无痕模式，并且从头到尾只用一个浏览器。",
      "Please log in another way. To use QQ: allow cookies for this shop, leave private mode, and stay in one browser "
        + "from start to end.",
    ],
    step: "login",
    linking: {
      text: [
        "请允许本站使用 Cookie，关闭无痕模式，并且从头到尾只用一个浏览器。",
        "Please allow cookies for this shop, leave private mode, and stay in one browser from start to end.",
      ],
    },
  },
  storage_blocked: {
    heading: ["浏览器禁止本站保存登录状态", "Your browser blocks data for this site"],
    text: [
      "请允许本站使用 Cookie 和网站数据，再试一次。不能允许的话，请换一个浏览器登录。",
      "Please allow cookies and site data for this shop, then try again. If you cannot, log in with another browser.",
    ],
    step: "store",
  },
  storage_full: {
    heading: ["浏览器的存储空间满了", "Your browser's storage is full"],
    text: [
      "登录状态存不下。请在浏览器设置里清除一些网站数据，再试一次。",
      "There is no room to keep you logged in. Please clear some site data in the browser's settings, then try again.",
    ],
    step: "store",
  },
};

/** Return a face as the page shows it. `isLinking`: a user who is signed in adds a QQ. */
export function getFace(state, isLinking) {
  const face = faces[state];
  return isLinking ? { ...face, ...face.linking } : face;
}

/** Return heading and text of a face as one paragraph, for a form's message. */
export function describeFace(state) {
  const { heading, text } = faces[state];
  return join([`${heading[0]}。`, `${heading[1]}.`], text);
}

export const slowText = ["比平时慢，请再等一下。", "This takes longer than usual. Please wait a little."];
export const repeatingText = ["正在自动重试，请不要关闭页面。", "Trying again automatically. Please keep this page open."];

export const steps = {
  restart: ["再用 QQ 登录", "QQ login again"],
  repeat: ["再试一次", "Try again"],
  login: ["去登录页", "Go to the login page"],
  store: ["再试一次", "Try again"],
  go: ["继续", "Go on"],
};

export const linkingSteps = {
  ...steps,
  restart: ["重新添加", "Add a QQ again"],
  login: ["返回账号页", "Back to your account"],
  sign_in: ["去登录", "Log in"],
};
