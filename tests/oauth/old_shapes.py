"""Tables as shops have them, as data: SHAPES work, REFUSALS are refused with a sentence."""

import re
from typing import NamedTuple

from tests.oauth.old_shop import ON_MYSQL, A, B

EXACT = "varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL" if ON_MYSQL else "varchar(64) NOT NULL"
COLUMNS = {
    "id": "bigint NOT NULL AUTO_INCREMENT" if ON_MYSQL else "integer NOT NULL PRIMARY KEY AUTOINCREMENT",
    "create_time": "datetime(6) NOT NULL",
    "update_time": "datetime(6) NOT NULL",
    "openid": "varchar(64) NOT NULL",
    "user_id": "bigint NOT NULL",
}
MYSQL_KEYS = ["PRIMARY KEY (id)", "KEY by_user (user_id)", "KEY by_openid (openid)"]
TIME = "2020-01-01 00:00:00"


def table(*lines, options="", keys=(), name="tb_oauth_qq", **columns):
    """Return the statement that creates the usual table with these columns instead (None: without that column)."""
    columns = {**COLUMNS, **columns}
    body = [f"{column} {definition}" for column, definition in columns.items() if definition]
    body += [*(keys or (MYSQL_KEYS if ON_MYSQL else [])), *lines]
    return f"CREATE TABLE {name} ({', '.join(body)}) {options}"


class Shape(NamedTuple):
    create: str  # statements, separated by semicolons
    rows: tuple = ()  # beside that of the old user: {column: value}
    openid: str = "openid"  # the column
    moved: str = ""  # what the migration prints
    more: dict = {}  # more columns of the old user's row


def renamed(keys):
    return [re.sub("openid", "open_id", key) for key in keys]


UNICODE = "DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci COMMENT='QQ 登录 100%'"
REPEATED = ({"openid": A, "user_id": 2}, {"openid": A, "user_id": 2})
ONE_REPEATED = "Rows that repeated a user's openid, now in tb_oauth_qq_merged: 1."
OLD_USERS = ", CONSTRAINT of_user FOREIGN KEY (user_id) REFERENCES tb_users (id)"
WITHOUT_TIMES = {"create_time": None, "update_time": None}
MYSQL_SHAPES = {
    "wide, with default and comment": Shape(
        table(openid="varchar(164) COLLATE utf8mb4_unicode_ci DEFAULT '0' COMMENT '100% of ''QQ'', `小明`\\\\\n'")
    ),
    "comment that names options": Shape(
        table(
            openid="varchar(64) NOT NULL COMMENT 'as AUTO_INCREMENT=5 COLLATE x'", options="COMMENT='AUTO_INCREMENT=5'"
        ),
    ),
    "exact already": Shape(
        table(openid="varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"),
        REPEATED,
        moved=ONE_REPEATED,
    ),
    "exact as its table is": Shape(table(options="DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin")),
    "collation of its table": Shape(table(options=UNICODE), REPEATED, moved=ONE_REPEATED),
    "another collation than its table": Shape(
        table(openid="varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL", options=UNICODE),
        REPEATED,
        moved=ONE_REPEATED,
    ),
    "gbk": Shape(
        table(note="varchar(9) NOT NULL DEFAULT '小明'", options="DEFAULT CHARSET=gbk"), REPEATED, moved=ONE_REPEATED
    ),
    "ascii and fixed width": Shape(table(openid="char(32) CHARACTER SET ascii COLLATE ascii_general_ci NOT NULL")),
    "text with a prefix key": Shape(
        table(openid="text NOT NULL", keys=[*MYSQL_KEYS[:2], "KEY by_openid (openid(20))"])
    ),
    "text with a long prefix key": Shape(
        table(openid="text NOT NULL", keys=[*MYSQL_KEYS[:2], "KEY by_openid (openid(191))"])
    ),
    "wide with long prefix keys": Shape(
        table(
            openid="varchar(255) NOT NULL",
            keys=[*MYSQL_KEYS[:2], "UNIQUE KEY by_start (openid(64))", "KEY by_both (user_id, openid(100) DESC)"],
        )
    ),
    "fulltext key": Shape(table("FULLTEXT KEY by_words (openid)"), REPEATED, moved=ONE_REPEATED),
    "open_id": Shape(table(openid=None, open_id="varchar(64) NOT NULL", keys=renamed(MYSQL_KEYS)), openid="open_id"),
    "open_id and repeated rows": Shape(
        table(openid=None, open_id="varchar(40) DEFAULT NULL COMMENT 'x'", keys=renamed(MYSQL_KEYS), options=UNICODE),
        ({"open_id": A, "user_id": 2}, {"open_id": A, "user_id": 2}),
        openid="open_id",
        moved=ONE_REPEATED,
    ),
    "other capitals": Shape(table(openid=None, openID="varchar(64) NOT NULL")),
    "no times": Shape(table(**WITHOUT_TIMES), REPEATED, moved=ONE_REPEATED),
    "no update_time, another time": Shape(
        table(update_time=None, add_time="timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP")
    ),
    "unionid narrow, NOT NULL": Shape(
        table(unionid="varchar(32) COLLATE utf8mb4_general_ci NOT NULL DEFAULT '' COMMENT 'NOT NULL'"),
        more={"unionid": "U"},
    ),
    "unionid with an index": Shape(table("KEY by_unionid (unionid)", unionid="varchar(100) DEFAULT NULL")),
    "unionid text": Shape(table(unionid="text NOT NULL")),
    "generated column and a repeated row": Shape(
        table(short="varchar(6) GENERATED ALWAYS AS (left(openid,6)) VIRTUAL"), REPEATED, moved=ONE_REPEATED
    ),
    "not deleted": Shape(table(is_delete="tinyint(1) NOT NULL DEFAULT '0'", delete_time="datetime DEFAULT NULL")),
    "enum without default": Shape(table(kind="enum('web','app') NOT NULL")),
    "check": Shape(table(openid="varchar(64) NOT NULL CHECK (char_length(openid) >= 1)")),
    "zero dates and id 0": Shape(
        table(update_time="datetime NOT NULL DEFAULT '0000-00-00 00:00:00'"),
        (
            {"id": 0, "openid": A, "user_id": 2, "update_time": "0000-00-00 00:00:00"},
            {"id": 9, "openid": B, "user_id": 3, "create_time": "2020-01-02"},
            {"id": -1, "openid": B, "user_id": 3},
        ),
        moved=ONE_REPEATED,
    ),
    "id 0 moves, times change by themselves": Shape(
        table(
            update_time="timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
            changed="datetime(3) DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP(3)",
        ),
        ({"id": 0, "openid": A, "user_id": 2, "create_time": "2020-01-02"}, {"id": -1, "openid": A, "user_id": 2}),
        moved=ONE_REPEATED,
    ),
    "trigger": Shape(
        table(note="varchar(9) DEFAULT NULL")
        + ";CREATE TRIGGER old_note BEFORE INSERT ON tb_oauth_qq FOR EACH ROW SET NEW.note = 'new'"
    ),
    "referenced": Shape(
        table() + ";CREATE TABLE old_visits (binding bigint, FOREIGN KEY (binding) REFERENCES tb_oauth_qq (id))"
    ),
    "foreign key": Shape(table(OLD_USERS[2:]), REPEATED, moved=ONE_REPEATED),
    "users that are gone": Shape(
        table(openid="varchar(64) DEFAULT NULL"),
        tuple({"openid": openid, "user_id": user} for openid, user in [(A, 77), (A, 2), (B, 77), (None, 77)]),
        moved="Rows whose user is gone, now in tb_oauth_qq_merged: 3 (ids 2, 4, 5).",
    ),
    "no user": Shape(
        table(user_id="bigint DEFAULT NULL"),
        ({"openid": A, "user_id": None},),
        moved="Rows whose user is gone, now in tb_oauth_qq_merged: 1 (id 2).",
    ),
    "invisible": Shape(table(note="varchar(9) DEFAULT 'x' INVISIBLE"), ({"openid": A, "user_id": 2, "note": "y"},)),
    "unique, ignoring case": Shape(table(keys=[*MYSQL_KEYS[:2], "UNIQUE KEY by_openid (openid)"])),
    "unique on both": Shape(table("UNIQUE KEY both_columns (user_id, openid)")),
    "compressed rows": Shape(
        table(
            options="ROW_FORMAT=COMPRESSED COMMENT='x'",
            update_time="timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
        )
    ),
    "spaces at the end": Shape(
        table(openid="varchar(64) NOT NULL"),
        ({"openid": "x", "user_id": 2}, {"openid": "x ", "user_id": 2}),
        moved=ONE_REPEATED,
    ),
    "exactly as ours": Shape(
        table(
            openid="varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL",
            unionid="varchar(64) DEFAULT NULL",
            keys=[
                "PRIMARY KEY (id)",
                "UNIQUE KEY openid (openid)",
                "KEY of_user (user_id)",
                "KEY of_unionid (unionid)",
            ],
        )
    ),
}
SQLITE_SHAPES = {
    "usual": Shape(table(), REPEATED, moved=ONE_REPEATED),
    "ignores case": Shape(
        table(openid="varchar(64) COLLATE NOCASE"), ({"openid": A, "user_id": 2}, {"openid": "a" * 32, "user_id": 3})
    ),
    "open_id": Shape(table(openid=None, open_id="varchar(64) NOT NULL"), openid="open_id"),
    "open_id in quotes": Shape(
        table(openid=None, **{'"open_id"': "varchar(64) NOT NULL"})
        + ';CREATE INDEX "by_openid" ON "tb_oauth_qq" ("open_id")',
        openid="open_id",
    ),
    "no times": Shape(table(**WITHOUT_TIMES), REPEATED, moved=ONE_REPEATED),
    "unionid": Shape(table(unionid="varchar(32) NULL")),
    "no AUTOINCREMENT": Shape(table(id="integer PRIMARY KEY"), REPEATED, moved=ONE_REPEATED),
    "constraints and an index": Shape(
        table("UNIQUE (user_id, openid)", "CHECK (openid <> '')")
        + ";CREATE INDEX by_both ON tb_oauth_qq (openid, user_id)"
    ),
    "generated column": Shape(
        table(short="varchar(6) GENERATED ALWAYS AS (substr(openid, 1, 6))"), REPEATED, moved=ONE_REPEATED
    ),
    "trigger": Shape(table() + ";CREATE TRIGGER old_note AFTER INSERT ON tb_oauth_qq BEGIN SELECT 1\\; END"),
    "users that are gone": Shape(
        table(openid="varchar(64)"),
        tuple({"openid": openid, "user_id": user} for openid, user in [(A, 77), (A, 2), (None, 77)]),
        moved="Rows whose user is gone, now in tb_oauth_qq_merged: 2 (ids 2, 4).",
    ),
    "foreign key": Shape(table(user_id="integer NOT NULL REFERENCES tb_users (id)"), REPEATED, moved=ONE_REPEATED),
    "other capitals": Shape(table(name="TB_OAUTH_QQ", openid=None, openID="varchar(64) NOT NULL")),
    "exactly as ours": Shape(
        table(openid="varchar(64) NOT NULL UNIQUE", unionid="varchar(64) NULL")
        + ";CREATE INDEX of_unionid ON tb_oauth_qq (unionid);CREATE INDEX of_user ON tb_oauth_qq (user_id)"
    ),
}
SHAPES = MYSQL_SHAPES if ON_MYSQL else SQLITE_SHAPES


def create(shop, statements, recorded=()):
    shop.clear(recorded)
    shop.run("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'") if ON_MYSQL else None
    for statement in re.split(r"(?<!\\);", statements):
        shop.run(statement.replace("\\;", ";"))


def insert(shop, *rows):
    """Insert rows as the old code does: with a time in each column of that name."""
    with shop.connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tb_oauth_qq WHERE 0 = 1")
        times = {name: TIME for name, *_ in cursor.description if name in ("create_time", "update_time")}
    for row in rows:
        filled = {**times, **row}
        places = ", ".join(["%s"] * len(filled))
        shop.run(f"INSERT INTO tb_oauth_qq ({', '.join(filled)}) VALUES ({places})", *filled.values())


EVERYTHING = {"create_time": None, "openid": None, "open_id": "varchar(164) NOT NULL DEFAULT '0'"}
KILLED = Shape(
    table(
        unionid="varchar(32) NOT NULL DEFAULT ''" if ON_MYSQL else "varchar(32)",
        **({"options": UNICODE, "keys": renamed(MYSQL_KEYS)} if ON_MYSQL else {}),
        **EVERYTHING,
    ),
    tuple({"open_id": openid, "user_id": user} for openid, user in [(A, 2), (A, 2), (A, 77), (A, 2)]),
    openid="open_id",
)


class Refusal(NamedTuple):
    create: str
    sentence: str  # "Then migrate again." follows
    fix: str = ""  # what the sentence says to do
    rows: tuple = ()
    openid: str | None = "openid"  # the column, if the old user has a row


MOVED = "Rows of tb_oauth_qq have to move, because they repeat another or their users are gone, and"
TWICE = ({"openid": A, "user_id": 2}, {"openid": A, "user_id": 2})
DELETED = "which this app does not read: with them, users could log in again. Delete these rows, or clear"
UNFILLED = "is NOT NULL without a default, so every new binding would fail:"
CHANGED = (
    "tb_oauth_qq.openid does not keep a new openid as it is, so no login would find it: remove the trigger that changes"
    " it."
)
NO_RECORD = "tb_oauth_qq_adopted is not the record that this app makes: rename it."
ALTER = "ALTER TABLE tb_oauth_qq"
MYSQL_REFUSALS = {
    "view": Refusal(
        f"{table(name='old_bindings')};CREATE VIEW tb_oauth_qq AS SELECT * FROM old_bindings",
        "tb_oauth_qq is no plain table but of the type view, which QQ login cannot use: replace it by a plain"
        " table of this name.",
        "DROP VIEW tb_oauth_qq;RENAME TABLE old_bindings TO tb_oauth_qq",
    ),
    "versions": Refusal(
        table(options="WITH SYSTEM VERSIONING"),
        "tb_oauth_qq is no plain table but of the type system versioned, which QQ login cannot use:"
        f" {ALTER} DROP SYSTEM VERSIONING.",
        f"{ALTER} DROP SYSTEM VERSIONING",
    ),
    "no transactions": Refusal(
        table(options="ENGINE=MyISAM"),
        f"tb_oauth_qq uses the engine MyISAM, which has no transactions: {ALTER} ENGINE=InnoDB.",
        f"{ALTER} ENGINE=InnoDB",
    ),
    "partitions": Refusal(
        table(options="PARTITION BY HASH (id) PARTITIONS 2"),
        f"tb_oauth_qq is partitioned, so openid cannot be unique: {ALTER} REMOVE PARTITIONING.",
        f"{ALTER} REMOVE PARTITIONING",
    ),
    "no id": Refusal(
        table(id=None, keys=["KEY by_openid (openid)"]),
        "tb_oauth_qq has no column id: add one, id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY.",
        f"{ALTER} ADD id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY",
    ),
    "id without numbers": Refusal(
        table(id="bigint NOT NULL"),
        "tb_oauth_qq.id does not number new rows by itself: make it bigint NOT NULL AUTO_INCREMENT (on SQLite integer"
        " PRIMARY KEY).",
        f"{ALTER} MODIFY id bigint NOT NULL AUTO_INCREMENT",
        openid=None,
    ),
    "id that runs out": Refusal(
        table(id="smallint NOT NULL AUTO_INCREMENT"),
        "tb_oauth_qq.id is smallint, whose numbers run out: make it bigint NOT NULL AUTO_INCREMENT.",
        f"{ALTER} MODIFY id bigint NOT NULL AUTO_INCREMENT",
    ),
    "user_id too small": Refusal(
        table(user_id="smallint unsigned NOT NULL"),
        "tb_oauth_qq.user_id is smallint, which cannot hold every id of tb_users: make it bigint.",
        f"{ALTER} MODIFY user_id bigint NOT NULL",
    ),
    "id not unique": Refusal(
        table(keys=["KEY by_id (id)"]),
        "tb_oauth_qq.id is not unique by itself: make it the primary key.",
        f"{ALTER} ADD PRIMARY KEY (id)",
    ),
    "no openid": Refusal(
        table(openid=None, qq="varchar(64) NOT NULL", keys=MYSQL_KEYS[:2]),
        "tb_oauth_qq has no column openid or open_id: rename the column that holds the openids to openid.",
        f"{ALTER} CHANGE qq openid varchar(64) NOT NULL",
        openid="qq",
    ),
    "no user_id": Refusal(
        table(user_id=None, buyer="bigint NOT NULL", keys=MYSQL_KEYS[:1]),
        "tb_oauth_qq has no column user_id: rename the column that holds the ids of the users to user_id.",
        f"{ALTER} CHANGE buyer user_id bigint NOT NULL",
        openid=None,
    ),
    "openid in bytes": Refusal(
        table(openid="varbinary(64) NOT NULL"),
        "tb_oauth_qq.openid is varbinary, which this app cannot compare as text: make it varchar(64).",
        f"{ALTER} MODIFY openid varchar(64) NOT NULL",
    ),
    "generated openid": Refusal(
        table(qq="varchar(64)", openid="varchar(64) GENERATED ALWAYS AS (qq) STORED"),
        "tb_oauth_qq.openid is a generated column, which nobody can write: make it a plain one.",
        f"{ALTER} DROP openid, CHANGE qq openid varchar(64)",
        openid="qq",
    ),
    "compressed openid": Refusal(
        table(openid="varchar(64) COMPRESSED", keys=MYSQL_KEYS[:2]),
        f"tb_oauth_qq.openid is COMPRESSED, so it cannot have a key: {ALTER} MODIFY openid varchar(64) NULL.",
        f"{ALTER} MODIFY openid varchar(64) NULL",
    ),
    "compressed unionid": Refusal(
        table(unionid="varchar(64) COMPRESSED NOT NULL DEFAULT ''"),
        f"tb_oauth_qq.unionid is COMPRESSED, so it cannot have a key: {ALTER} MODIFY unionid varchar(64) NOT NULL.",
        f"{ALTER} MODIFY unionid varchar(64) NULL",
    ),
    "day only": Refusal(
        table(create_time="date NOT NULL"),
        "tb_oauth_qq.create_time is date, which cannot hold a time: make it datetime(6) or rename it.",
        f"{ALTER} MODIFY create_time datetime(6) NOT NULL",
    ),
    "unionid a number": Refusal(
        table(unionid="bigint"),
        "tb_oauth_qq.unionid is bigint, which cannot hold a unionid: make it varchar(64) NULL or rename it.",
        f"{ALTER} MODIFY unionid varchar(64) NULL",
    ),
    "number without default": Refusal(
        table(is_delete="tinyint(1) NOT NULL"),
        f"tb_oauth_qq.is_delete {UNFILLED} {ALTER} ALTER COLUMN `is_delete` SET DEFAULT 0.",
        f"{ALTER} ALTER COLUMN is_delete SET DEFAULT 0",
    ),
    "text without default": Refusal(
        table(**{"`desc`": "varchar(20) NOT NULL COMMENT 'x'"}),
        f"tb_oauth_qq.desc {UNFILLED} {ALTER} ALTER COLUMN `desc` SET DEFAULT ''.",
        f"{ALTER} ALTER COLUMN `desc` SET DEFAULT ''",
    ),
    "time without default": Refusal(
        table(update_time=None, add_time="datetime(6) NOT NULL"),
        f"tb_oauth_qq.add_time {UNFILLED} {ALTER} MODIFY `add_time` datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6).",
        f"{ALTER} MODIFY add_time datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
    ),
    "long text without default": Refusal(
        table(raw="longtext NOT NULL"),
        f"tb_oauth_qq.raw {UNFILLED} {ALTER} MODIFY `raw` longtext NULL.",
        f"{ALTER} MODIFY raw longtext NULL",
    ),
    "both openid and open_id": Refusal(
        table(open_id="varchar(64) NOT NULL"),
        f"tb_oauth_qq.open_id {UNFILLED} {ALTER} ALTER COLUMN `open_id` SET DEFAULT ''.",
        f"{ALTER} ALTER COLUMN open_id SET DEFAULT ''",
    ),
    "one QQ a user": Refusal(
        table("UNIQUE KEY one_user (user_id)"),
        "tb_oauth_qq has the unique key one_user (user_id), and a user may have several QQ bindings: drop the key, or"
        " make it a plain one.",
        f"{ALTER} DROP KEY one_user",
    ),
    "one binding a unionid": Refusal(
        table("UNIQUE KEY one_unionid (unionid)", unionid="varchar(64) NOT NULL"),
        "tb_oauth_qq has the unique key one_unionid (unionid), and many bindings have no unionid: drop the key, or make"
        " it a plain one.",
        f"{ALTER} DROP KEY one_unionid",
    ),
    "users of another table": Refusal(
        "CREATE TABLE old_users (id bigint PRIMARY KEY);INSERT INTO old_users VALUES (1);"
        + table("CONSTRAINT of_old FOREIGN KEY (user_id) REFERENCES old_users (id)"),
        "tb_oauth_qq.user_id references old_users, but users are in tb_users, so new bindings would fail: drop the"
        " foreign key of_old, or let it reference tb_users.",
        f"{ALTER} DROP FOREIGN KEY of_old",
    ),
    "users of another table too": Refusal(
        "CREATE TABLE old_users (id bigint PRIMARY KEY);INSERT INTO old_users VALUES (1);"
        + table("CONSTRAINT a_old FOREIGN KEY (user_id) REFERENCES old_users (id)", OLD_USERS[2:]),
        "tb_oauth_qq.user_id references old_users, but users are in tb_users, so new bindings would fail: drop the"
        " foreign key a_old, or let it reference tb_users.",
        f"{ALTER} DROP FOREIGN KEY a_old",
    ),
    "marked as deleted": Refusal(
        table(is_delete="tinyint(1) NOT NULL DEFAULT 0"),
        f"tb_oauth_qq has rows that is_delete marks as deleted (ids 2, 3), {DELETED} is_delete in them.",
        "DELETE FROM tb_oauth_qq WHERE is_delete",
        rows=({"openid": A, "user_id": 2, "is_delete": 1}, {"openid": B, "user_id": 2, "is_delete": 1}),
    ),
    "deleted at a time": Refusal(
        table(deleted_at="datetime"),
        f"tb_oauth_qq has rows that deleted_at marks as deleted (id 2), {DELETED} deleted_at in them.",
        "UPDATE tb_oauth_qq SET deleted_at = NULL",
        rows=({"openid": A, "user_id": 2, "deleted_at": TIME},),
    ),
    "deleted by a letter": Refusal(
        table(del_flag="char(1) NOT NULL DEFAULT '0'"),
        f"tb_oauth_qq has rows that del_flag marks as deleted (id 2), {DELETED} del_flag in them.",
        "DELETE FROM tb_oauth_qq WHERE del_flag = '2'",
        rows=({"openid": A, "user_id": 2, "del_flag": "2"},),
    ),
    "not active": Refusal(
        table(is_active="bit(1) NOT NULL DEFAULT 1"),
        f"tb_oauth_qq has rows that is_active marks as deleted (id 2), {DELETED} is_active in them.",
        "DELETE FROM tb_oauth_qq WHERE is_active = 0",
        rows=({"openid": A, "user_id": 2, "is_active": 0},),
    ),
    "users elsewhere": Refusal(
        table(),
        "Not one user of tb_oauth_qq.user_id is in tb_users: set AUTH_USER_MODEL to the users of these rows, or delete"
        " the rows.",
        "UPDATE tb_oauth_qq SET user_id = 1",
        rows=({"openid": A, "user_id": 77}, {"openid": B, "user_id": 78}),
        openid=None,
    ),
    "too long": Refusal(
        table(openid="varchar(255) NOT NULL"),
        "tb_oauth_qq.openid is longer than 64 characters in some rows (ids 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …), and no"
        " openid of QQ is: correct or delete these rows.",
        "DELETE FROM tb_oauth_qq WHERE CHAR_LENGTH(openid) > 64",
        rows=tuple({"openid": f"{number:0120}", "user_id": 2} for number in range(11)),
    ),
    "rows of an earlier migration": Refusal(
        table() + ";CREATE TABLE tb_oauth_qq_merged (id bigint);INSERT INTO tb_oauth_qq_merged VALUES (1)",
        "tb_oauth_qq_merged holds rows of an earlier migration, and its columns are not those of tb_oauth_qq: rename"
        " it, and keep it until its rows are where they belong.",
        "RENAME TABLE tb_oauth_qq_merged TO old_rows",
        rows=TWICE,
    ),
    "trigger that would see rows move": Refusal(
        table() + ";CREATE TRIGGER old_log AFTER DELETE ON tb_oauth_qq FOR EACH ROW SET @gone = 1",
        f"{MOVED} the trigger old_log would see that: drop it, and recreate it afterwards.",
        "DROP TRIGGER old_log",
        rows=TWICE,
    ),
    "trigger that reads open_id": Refusal(
        table(openid=None, open_id="varchar(64) NOT NULL", keys=renamed(MYSQL_KEYS))
        + ";CREATE TRIGGER old_log BEFORE INSERT ON tb_oauth_qq FOR EACH ROW SET NEW.open_id = UPPER(NEW.open_id)",
        "tb_oauth_qq.open_id has to be renamed to openid, which the trigger old_log may not survive: drop it, and"
        " recreate it afterwards with the new name.",
        "DROP TRIGGER old_log",
        openid="open_id",
    ),
    "column with our name": Refusal(
        table(qq_avatar="varchar(512) CHARACTER SET utf8mb4 DEFAULT NULL COMMENT '头像'"),
        "tb_oauth_qq has a column qq_avatar, a name that this app needs: rename it, or drop it if this app has added"
        " it.",
        "ALTER TABLE tb_oauth_qq RENAME COLUMN qq_avatar TO avatar",
    ),
    "view that reads open_id": Refusal(
        table(openid=None, open_id="varchar(64) NOT NULL", keys=renamed(MYSQL_KEYS))
        + ";CREATE VIEW old_openids AS SELECT open_id FROM tb_oauth_qq",
        "tb_oauth_qq.open_id has to be renamed to openid, which the view old_openids may not survive: drop it, and"
        " recreate it afterwards with the new name.",
        "DROP VIEW old_openids",
        openid="open_id",
    ),
    "trigger that changes openids": Refusal(
        table()
        + ";CREATE TRIGGER old_low BEFORE INSERT ON tb_oauth_qq FOR EACH ROW SET NEW.openid = LOWER(NEW.openid)",
        CHANGED,
        "DROP TRIGGER old_low",
    ),
    "another table of the record's name": Refusal(
        table() + ";CREATE TABLE tb_oauth_qq_adopted (x integer)",
        NO_RECORD,
        "RENAME TABLE tb_oauth_qq_adopted TO old_x",
    ),
    "referenced rows that would move": Refusal(
        table() + ";CREATE TABLE old_visits (binding bigint, FOREIGN KEY (binding) REFERENCES tb_oauth_qq (id))",
        f"{MOVED} old_visits references the table by a foreign key: drop that key.",
        "DROP TABLE old_visits",
        rows=TWICE,
    ),
}
SQLITE_REFUSALS = {
    "column with our name": Refusal(
        table(qq_nickname="varchar(20) NULL"),
        "tb_oauth_qq has a column qq_nickname, a name that this app needs: rename it, or drop it if this app has added"
        " it.",
        "ALTER TABLE tb_oauth_qq RENAME COLUMN qq_nickname TO nickname",
    ),
    "strict": Refusal(
        "CREATE TABLE tb_oauth_qq (id integer PRIMARY KEY, openid text, user_id integer, create_time text) STRICT",
        "tb_oauth_qq is a STRICT table, to which SQLite adds no varchar: replace it by a table without STRICT.",
        f"DROP TABLE tb_oauth_qq;{table()}",
        openid=None,
    ),
    "openid without a type": Refusal(
        "CREATE TABLE tb_oauth_qq (id integer PRIMARY KEY, openid, user_id integer)",
        "tb_oauth_qq.openid is a column without a type, which this app cannot compare as text: make it varchar(64).",
        f"DROP TABLE tb_oauth_qq;{table()}",
    ),
    "unionid without a type": Refusal(
        "CREATE TABLE tb_oauth_qq (id integer PRIMARY KEY, openid text, unionid, user_id integer)",
        "tb_oauth_qq.unionid is a column without a type, which cannot hold a unionid: make it varchar(64) NULL or"
        " rename it.",
        f"DROP TABLE tb_oauth_qq;{table()}",
    ),
    "time without a type": Refusal(
        "CREATE TABLE tb_oauth_qq (id integer PRIMARY KEY, openid text, update_time, user_id integer)",
        "tb_oauth_qq.update_time is a column without a type, which cannot hold a time: make it datetime(6) or rename"
        " it.",
        "ALTER TABLE tb_oauth_qq RENAME COLUMN update_time TO changed",
    ),
    "virtual": Refusal(
        "CREATE VIRTUAL TABLE tb_oauth_qq USING fts5 (openid)",
        "tb_oauth_qq is no plain table but of the type virtual table, which QQ login cannot use: replace it by a"
        " plain table of this name.",
        f"DROP TABLE tb_oauth_qq;{table()}",
        openid=None,
    ),
    "id without numbers": Refusal(
        table(id="bigint PRIMARY KEY"),
        "tb_oauth_qq.id does not number new rows by itself: make it bigint NOT NULL AUTO_INCREMENT (on SQLite integer"
        " PRIMARY KEY).",
    ),
    "no number of a row": Refusal(
        table(id="integer NOT NULL PRIMARY KEY", options="WITHOUT ROWID"),
        "tb_oauth_qq.id does not number new rows by itself: make it bigint NOT NULL AUTO_INCREMENT (on SQLite integer"
        " PRIMARY KEY).",
        openid=None,
    ),
    "trigger that changes openids": Refusal(
        table() + ";CREATE TRIGGER old_low AFTER INSERT ON tb_oauth_qq BEGIN"
        " UPDATE tb_oauth_qq SET openid = LOWER(openid) WHERE id = NEW.id\\; END",
        CHANGED,
        "DROP TRIGGER old_low",
    ),
    "another table of the record's name": Refusal(
        table() + ";CREATE TABLE tb_oauth_qq_adopted (x integer)",
        NO_RECORD,
        "ALTER TABLE tb_oauth_qq_adopted RENAME TO old_x",
    ),
    "unionid NOT NULL": Refusal(
        table(unionid="varchar(64) NOT NULL DEFAULT ''"),
        "tb_oauth_qq.unionid is NOT NULL, which SQLite cannot change: set null=True in the old app's model, and migrate"
        " that first.",
    ),
    "without default": Refusal(
        table(is_delete="bool NOT NULL"),
        f"tb_oauth_qq.is_delete {UNFILLED} set db_default or null=True in the old app's model, and migrate that first.",
        openid=None,
    ),
    "users of another table too": Refusal(
        "CREATE TABLE old_users (id bigint PRIMARY KEY);INSERT INTO old_users VALUES (1);"
        + table("CONSTRAINT a_old FOREIGN KEY (user_id) REFERENCES old_users (id)", OLD_USERS[2:]),
        "tb_oauth_qq.user_id references old_users, but users are in tb_users, so new bindings would fail: drop the"
        " foreign key, or let it reference tb_users.",
    ),
    "marked as deleted": MYSQL_REFUSALS["marked as deleted"]._replace(
        create=table(is_delete="bool NOT NULL DEFAULT 0")
    ),
    "one QQ a user": Refusal(
        table("CONSTRAINT one_user UNIQUE (user_id)"),
        "tb_oauth_qq has the unique key sqlite_autoindex_tb_oauth_qq_1 (user_id), and a user may have several QQ"
        " bindings: drop the key, or make it a plain one.",
    ),
    "users elsewhere": MYSQL_REFUSALS["users elsewhere"]._replace(create=table()),
    "too long": MYSQL_REFUSALS["too long"]._replace(fix="DELETE FROM tb_oauth_qq WHERE LENGTH(openid) > 64"),
    "day only": MYSQL_REFUSALS["day only"]._replace(fix="", openid=None),
    "trigger that would see rows move": Refusal(
        table() + ";CREATE TRIGGER old_log AFTER DELETE ON tb_oauth_qq BEGIN SELECT 1\\; END",
        f"{MOVED} the trigger old_log would see that: drop it, and recreate it afterwards.",
        "DROP TRIGGER old_log",
        rows=TWICE,
    ),
    "referenced rows that would move": Refusal(
        table() + ";CREATE TABLE old_visits (binding integer REFERENCES tb_oauth_qq (id))",
        f"{MOVED} old_visits references the table by a foreign key: drop that key.",
        "DROP TABLE old_visits",
        rows=TWICE,
    ),
}
REFUSALS = MYSQL_REFUSALS if ON_MYSQL else SQLITE_REFUSALS


class Refused(NamedTuple):
    create: str
    named: str  # what the database names
    openid: str = "openid"
    users: tuple = (1,)  # who have one openid


REFUSED_BY_THE_DATABASE = {
    "referenced openid": Refused(
        table(keys=[*MYSQL_KEYS[:2], "UNIQUE KEY by_openid (openid)"])
        + ";CREATE TABLE old_visits (openid varchar(64), FOREIGN KEY (openid) REFERENCES tb_oauth_qq (openid))",
        "old_visits",
    ),
    "check of an open_id that repeats": Refused(
        table(openid=None, open_id="varchar(64) NOT NULL CHECK (open_id <> '')", keys=renamed(MYSQL_KEYS)),
        "open_id",
        openid="open_id",
        users=(1, 1),
    ),
}


PEOPLE = (
    f"CREATE TABLE old_people (openid {EXACT} PRIMARY KEY, id bigint UNIQUE);INSERT INTO old_people VALUES ('{A}', 1)"
)
REFUSED_BINDINGS = {  # that the database refuses: what it names, and how to remove that
    "foreign key of openid": (
        f"{PEOPLE};{table('CONSTRAINT of_people FOREIGN KEY (openid) REFERENCES old_people (openid)', openid=EXACT)}",
        "old_people",
        f"{ALTER} DROP FOREIGN KEY of_people",
    ),
    "check of the user": (table("CONSTRAINT few CHECK (user_id < 6)"), "few", f"{ALTER} DROP CONSTRAINT few"),
    "check of the unionid": (
        table("CONSTRAINT short CHECK (unionid < 'A')", unionid="varchar(64)"),
        "short",
        f"{ALTER} DROP CONSTRAINT short",
    ),
}
