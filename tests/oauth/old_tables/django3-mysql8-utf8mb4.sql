-- A shop on Django 3.2 and MySQL 8 with BigAutoField, its database of a collation that MariaDB knows too.
CREATE TABLE `tb_oauth_qq` (
  `id` bigint NOT NULL AUTO_INCREMENT,
  `create_time` datetime(6) NOT NULL,
  `update_time` datetime(6) NOT NULL,
  `openid` varchar(64) COLLATE utf8mb4_unicode_ci NOT NULL,
  `user_id` bigint NOT NULL,
  PRIMARY KEY (`id`),
  KEY `tb_oauth_qq_user_id_e0f90ba2_fk_tb_users_id` (`user_id`),
  KEY `tb_oauth_qq_openid_4f8b4c13` (`openid`),
  CONSTRAINT `tb_oauth_qq_user_id_e0f90ba2_fk_tb_users_id` FOREIGN KEY (`user_id`) REFERENCES `tb_users` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
