-- What Remora needs beyond its rights on the schema, which the image of MySQL gives to MYSQL_USER.
GRANT ALL ON `\_remora%`.* TO 'remora'@'%';
GRANT SHOW_ROUTINE, BACKUP_ADMIN, FLUSH_TABLES, PROCESS, REPLICATION CLIENT ON *.* TO 'remora'@'%';
GRANT SELECT ON performance_schema.* TO 'remora'@'%';
