-- A shop on Django 2.2 and MySQL 5.7: AutoField is int. Our users have bigint, so the foreign key is left out.
CREATE TABLE `tb_oauth_qq` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `create_time` datetime(6) NOT NULL,
  `update_time` datetime(6) NOT NULL,
  `openid` varchar(64) NOT NULL,
  `user_id` int(11) NOT NULL,
  PRIMARY KEY (`id`),
  KEY `tb_oauth_qq_user_id_e0f90ba2_fk_tb_users_id` (`user_id`),
  KEY `tb_oauth_qq_openid_4f8b4c13` (`openid`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
