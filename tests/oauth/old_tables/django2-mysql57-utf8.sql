-- A shop on Django 2.2 and MySQL 5.7: AutoField is int. Our users have bigint, so its own are beside them.
CREATE TABLE `old_users` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

INSERT INTO `old_users` VALUES (1),(2),(3),(4),(5),(6);

CREATE TABLE `tb_oauth_qq` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `create_time` datetime(6) NOT NULL,
  `update_time` datetime(6) NOT NULL,
  `openid` varchar(64) NOT NULL,
  `user_id` int(11) NOT NULL,
  PRIMARY KEY (`id`),
  KEY `tb_oauth_qq_user_id_e0f90ba2_fk_tb_users_id` (`user_id`),
  KEY `tb_oauth_qq_openid_4f8b4c13` (`openid`),
  CONSTRAINT `tb_oauth_qq_user_id_e0f90ba2_fk_tb_users_id` FOREIGN KEY (`user_id`) REFERENCES `old_users` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
