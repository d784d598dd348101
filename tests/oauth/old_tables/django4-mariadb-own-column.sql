-- A shop on Django 4.2 and MariaDB whose later migrations have added a column, which is none of our business.
CREATE TABLE `tb_oauth_qq` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `create_time` datetime(6) NOT NULL,
  `update_time` datetime(6) NOT NULL,
  `openid` varchar(64) NOT NULL,
  `user_id` bigint(20) NOT NULL,
  `nickname` varchar(30) NOT NULL DEFAULT '小明',
  PRIMARY KEY (`id`),
  KEY `tb_oauth_qq_user_id_e0f90ba2_fk_tb_users_id` (`user_id`),
  KEY `tb_oauth_qq_openid_4f8b4c13` (`openid`),
  CONSTRAINT `tb_oauth_qq_user_id_e0f90ba2_fk_tb_users_id` FOREIGN KEY (`user_id`) REFERENCES `tb_users` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
