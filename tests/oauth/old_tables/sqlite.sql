-- A developer's copy of such a shop.
CREATE TABLE "tb_oauth_qq" (
  "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
  "create_time" datetime NOT NULL,
  "update_time" datetime NOT NULL,
  "openid" varchar(64) NOT NULL,
  "user_id" integer NOT NULL REFERENCES "tb_users" ("id") DEFERRABLE INITIALLY DEFERRED
);

CREATE INDEX "tb_oauth_qq_user_id_e0f90ba2" ON "tb_oauth_qq" ("user_id");

CREATE INDEX "tb_oauth_qq_openid_4f8b4c13" ON "tb_oauth_qq" ("openid");
