// What each shop writes itself: Chinese, English, and an address. A text without an address is no link.

export const agreements = [ // that a new user accepts
  { text: ["《用户协议》", "Terms of Service"], address: "" },
  { text: ["《隐私政策》", "Privacy Policy"], address: "" },
];

export const footer = [ // at the end of every page: customer service, registration numbers
  { text: ["客服 400-000-0000（示例）", "Customer service 400-000-0000 (example)"], address: "" },
  { text: ["京ICP备00000000号（示例）", "ICP 00000000 (example)"], address: "https://beian.miit.gov.cn/" },
];
