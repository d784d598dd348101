// What the scripts say, apart from the states of the callback page (faces.js): Chinese, English.

export const texts = {
  // failures without a message of the API
  network: ["网络好像断了，请检查后再试一次。", "No connection: please try again."],
  tooLong: ["填写的内容太长了。", "What you entered is too long."],
  throttled: ["操作太频繁，请稍后再试。", "Too many requests: please wait a moment."],
  failure: ["网站暂时出了点问题，请稍后再试。", "Something went wrong: please try again later."],
  refused: ["没有通过，请检查后再试。", "This was not accepted: please check it and try again."],

  // fields
  checkField: ["请检查这一项。", "Please check this."],
  fillIn: ["请填写这一项。", "Please fill this in."],
  agree: ["请先阅读并同意。", "Please read and agree first."],
  mobileWrong: ["请填写 11 位手机号。", "Please enter a mobile number of 11 digits."],
  passwordsDiffer: ["两次输入的密码不一致。", "The two passwords are different."],
  askForSMS: ["请先点“获取短信”，再填收到的验证码。", "Press “Send SMS” first, then enter the code you receive."],
  pictureFailed: ["图形没有加载出来，点一下再试。", "The picture did not load: click it to try again."],
  sendSMS: ["获取短信", "Send SMS"],
  smsSent: ["短信已发送，请查收。", "The SMS is on its way."],
  useSMS: ["改用短信验证码确认", "Confirm by SMS instead"],
  usePassword: ["改用密码确认", "Confirm by password instead"],

  // the bind form
  bind: ["绑定手机号", "Your mobile number"],
  bindSubmit: ["绑定并登录", "Bind and log in"],
  confirmed: ["QQ 已确认您的身份，还差一步", "QQ has confirmed who you are. One more step"],
  add: ["添加这个 QQ", "Add this QQ"],
  addSubmit: ["确认添加", "Add"],
  addConfirmed: ["请确认是您本人", "Please confirm that it is you"],
  expiresSoon: ["还剩不到一分钟。", "Less than a minute left."],
  otherWay: ["其他登录方式", "Another way to log in"],
  backToAccount: ["返回账号页", "Back to your account"],

  // the account page
  unnamed: ["QQ 用户", "QQ user"],
  noBindings: ["还没有绑定 QQ。添加以后，可以用 QQ 登录。", "No QQ yet. Add one to log in with it."],
  bindings: ["这些 QQ 可以登录您的账号：", "These QQs can log in to your account:"],
  remove: ["解除", "Remove"],
  added: ["已添加。", "Added."],
  removed: ["已解除绑定。", "Removed."],
  notGiven: ["未填写", "not given"],

  passwordSaved: ["新密码已保存。", "The new password is saved."],
  registered: ["账号已创建。", "The account has been created."],
};

export const wait = (seconds) => (seconds < 90
  ? [`请等 ${seconds} 秒。`, `Please wait ${seconds} seconds.`]
  : [`请等 ${Math.ceil(seconds / 60)} 分钟。`, `Please wait ${Math.ceil(seconds / 60)} minutes.`]);

export const resend = (seconds) => (seconds < 90
  ? [`${seconds} 秒后重发`, `again in ${seconds} s`]
  : [`${Math.ceil(seconds / 60)} 分钟后重发`, `again in ${Math.ceil(seconds / 60)} min`]);

export function timeLeft(seconds) {
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  return [`请在 ${clock} 内完成`, `Please finish within ${clock}`];
}

export const greeting = (nickname) => [`您好，${nickname}`, `Hello, ${nickname}`];
export const mobileHint = (masked) => [`这个账号的手机号：${masked}`, `The number of this account: ${masked}`];
export const removeHeading = (name) => [`解除绑定“${name[0]}”？`, `Remove “${name[1]}”?`];
export const removeName = (name) => [`绑定：${name[0]}`, ` ${name[1]}`];

export function added(time) {
  const date = (language) => new Date(time).toLocaleDateString(language, { dateStyle: "medium" });
  return [`${date("zh-CN")}添加`, `Added ${date("en-GB")}`];
}

export const identity = ({ openid, app }) => [`openid ${openid} · 应用 ${app}`, `openid ${openid} · app ${app}`];
