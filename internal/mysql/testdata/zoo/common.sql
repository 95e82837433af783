-- What every server holds: a schema of everything that comes to people's minds. Statements end with a semicolon, bodies
-- need no delimiter: the server takes the file as one text.
SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00', foreign_key_checks = 0;

-- Numbers at their extremes. FLOAT has digits that no text of the server shows.
CREATE TABLE numbers (id INT PRIMARY KEY, t TINYINT, s SMALLINT UNSIGNED, m MEDIUMINT, i INT(10) UNSIGNED ZEROFILL, b BIGINT, u BIGINT UNSIGNED,
	f FLOAT, fd FLOAT(7,3), d DOUBLE, dd DOUBLE(20,5), c DECIMAL(65,30), bit1 BIT(1), bit17 BIT(17), bit64 BIT(64), y YEAR, bo BOOLEAN,
	fu FLOAT UNSIGNED ZEROFILL, f5 FLOAT(53), c65 DECIMAL(65,0) ZEROFILL, mu MEDIUMINT UNSIGNED);
INSERT INTO numbers VALUES
	(1, -128, 65535, -8388608, 7, -9223372036854775808, 18446744073709551615, 3.4028234e38, 1234.567, 1.7976931348623157e308, 123456789012345.12345,
		99999999999999999999999999999999999.999999999999999999999999999999, b'1', b'10101010101010101', b'1111111111111111111111111111111111111111111111111111111111111111', 2155, 1,
		3.4028235e38, 5e-324, 99999999999999999999999999999999999999999999999999999999999999999, 16777215),
	(2, 127, 0, 8388607, 4294967295, 9223372036854775807, 9223372036854775808, 16777217, -0.001, 2.2250738585072014e-308, -0.00001,
		-0.000000000000000000000000000001, b'0', 0, 9, 1901, 0, 1.5, 0.1, 7, 0),
	(3, NULL, NULL, NULL, NULL, NULL, NULL, -0e0, NULL, -0e0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(4, 0, 0, 0, 0, 0, 0, 123456.789, 0, 0.1, 0, 0, b'0', b'1001', 0x5c090a00, 0, 1, 0.00001, -1e-7, 0, 1),
	(0, 0, 0, 0, 0, 0, 0, 1.17549435e-38, 0, 4.9e-324, 0, 0, b'0', 0, 0, 2000, 1, 1e-45, 1e22, 0, 0),
	(5, 1, 1, 1, 1, 1, 1, 1e-45, -999.9996, 0.30000000000000004, -0e0, 1, b'1', 1, 0x0d0a1a00095c27, 1970, 0, 8388608.5, 9007199254740993, 1, 1);
CREATE TABLE floats (f FLOAT PRIMARY KEY, d DOUBLE NOT NULL, KEY (d));
INSERT INTO floats VALUES (0.1, 0.1), (16777216, 1), (-1.1754944e-38, -1), (3.1415927, 3.141592653589793), (33554434, 1e300);

-- Moments: zero and invalid dates, both edges of TIME and TIMESTAMP, the hour that summer time leaves out.
CREATE TABLE moments (id INT PRIMARY KEY, d DATE, t TIME(6), dt DATETIME(6), ts TIMESTAMP(3) NULL, t0 TIME, dt0 DATETIME, on_update TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6));
INSERT INTO moments VALUES (1, '0000-00-00', '-838:59:59.999999', '0000-00-00', 0, '-838:59:59', '0000-01-01', '2038-01-19 03:14:07.999999'), (2, '2024-02-30', '838:59:59.999999', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.499', '00:00:00', '2024-06-31 25:00:00', 0),
	(3, '2024-00-00', '-00:00:00.000001', '1000-01-01', '1970-01-01 00:00:01', '838:59:59', '0000-00-01', '1970-01-01 00:00:01.000001'), (4, NULL, NULL, NULL, NULL, NULL, NULL, '2000-01-01'), (5, '2026-03-29', '02:30', '2026-03-29 02:30', '2026-03-29 01:30:00.123', '02:30', '2026-10-25 02:30', '2026-10-25 00:30'),
	(6, '9999-12-31', '00:00:00.1', '2023-02-31 23:59:59.5', '2026-10-25 01:30:00', '24:00', '1000-01-01', '2026-10-25 01:30');

CREATE TABLE texts (id INT PRIMARY KEY, c CHAR(10), v VARCHAR(300) CHARACTER SET utf8mb4, l VARCHAR(300) CHARACTER SET latin1, u TEXT CHARACTER SET utf16,
	b BINARY(8), vb VARBINARY(300), bl BLOB, lt LONGTEXT, e ENUM('a','b''c','','1'), e2 ENUM('a','1') DEFAULT 'a', s SET('x','y','z'), s2 SET('','b;c'), g GEOMETRY,
	tt TINYTEXT, tb TINYBLOB, mt MEDIUMTEXT, mb MEDIUMBLOB, lb LONGBLOB, c0 CHAR(0), v0 VARBINARY(0), nn CHAR(5) NOT NULL DEFAULT 'a\\\'"', cb CHAR(4) BINARY);
INSERT IGNORE INTO texts (id, c, v, l, u, b, vb, bl, lt, e, s, s2, g, tt, tb, mt, mb, lb, c0, v0, nn, cb) VALUES
	(1, 'x ', CONCAT('tab', CHAR(9), 'nl', CHAR(10), 'cr', CHAR(13), 'nul', CHAR(0), 'z', CHAR(26), 'bs', CHAR(92), 'q''"'), 0x80819fe9ff, 'ü😀', 0x00, 0x005c09000a0d1aff5c4e, 0x5c4e, '\\N', 'b''c', 'x,z', '', ST_GeomFromText('POINT(1 2)'), REPEAT('t', 255), REPEAT(0x0a, 255), '\n', '\r', '\Z', '', '', '', 'Ab'),
	(2, '', '', '', '', '', '', '', '', '', '', NULL, NULL, '', '', '', '', '', '', '', ' ', ''),
	(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'x', NULL),
	(4, 'NULL', '\\N', 'NULL', '\\', 0x5c, 0x0a, 0x09, '\t', '1', 'x', '', NULL, '\\', 0x5c, '\\N', '\\\\', 'NULL', NULL, NULL, '\\', '\\'),
	(5, 'e', '😀é', 'e', 'e', 'e', 'e', REPEAT(UNHEX('005c090aff'), 100), REPEAT('é\\\n', 20000), 'a', 'y', '', ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))'), 'e', 'e', REPEAT('\t', 70000), REPEAT(0x00, 70000), REPEAT(UNHEX('fffe5c0a'), 100000), '', '', '\t', 'é');
INSERT IGNORE INTO texts (id, e, e2) VALUES (6, 'no such value', 'a'), (7, 'a', 'no such value');

CREATE TABLE documents (id INT PRIMARY KEY, j JSON, k JSON NOT NULL);
INSERT INTO documents VALUES (1, '{"a": [1, 2.5, "x\\ny", null, true], "é": "😀"}', '[]'), (2, '""', '{}'), (3, NULL, 'null'), (4, '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]', 'true'),
	(5, '-0', '1e100'), (6, '9223372036854775807', '18446744073709551615'), (7, '-9223372036854775808', '1.7976931348623157e308'), (8, '"\\u0000\\t\\\\\\""', '{"": {"": [""]}, "b": 1, "aa": 2, "a": 3}'), (9, '0.1', '3.0'), (10, '5e-324', '[1, 1.0, 1e0, "1"]'),
	(11, CONCAT('["', REPEAT('long ', 20000), '"]'), '{"a": 123456789012345678901234567890}');

CREATE TABLE geometries (id INT PRIMARY KEY, g GEOMETRY, p POINT NOT NULL, l LINESTRING, y POLYGON, mp MULTIPOINT, ml MULTILINESTRING, my MULTIPOLYGON, gc GEOMETRYCOLLECTION);
INSERT INTO geometries VALUES
	(1, ST_GeomFromText('POINT(1.5 -2)'), ST_GeomFromText('POINT(0 0)'), ST_GeomFromText('LINESTRING(0 0,1 1,2 5)'), ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 10,0 0),(2 2,4 2,4 4,2 4,2 2))'), ST_GeomFromText('MULTIPOINT(0 0,1 1)'),
		ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))'), ST_GeomFromText('MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((5 5,6 5,6 6,5 5)))'), ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')),
	(2, NULL, ST_GeomFromText('POINT(-1e300 1e-300)'), NULL, NULL, NULL, NULL, NULL, NULL);

-- Columns that are computed, hidden, or numbered.
CREATE TABLE odd_columns (a INT, g1 INT AS (a + 1), b VARCHAR(20), g2 VARCHAR(50) AS (CONCAT(b, '\n,)')) STORED, hidden INT INVISIBLE DEFAULT 5, g3 INT AS (g1 * 2) VIRTUAL INVISIBLE, KEY (g1), CONSTRAINT `not 13, )` CHECK (a <> 13));
INSERT INTO odd_columns (a, b, hidden) VALUES (1, 'x', 7), (1, 'x', 7), (NULL, NULL, NULL);
CREATE TABLE defaults (id INT PRIMARY KEY AUTO_INCREMENT, u VARCHAR(36) DEFAULT (UUID()), d DATETIME DEFAULT (CURRENT_TIMESTAMP + INTERVAL 1 YEAR), n INT DEFAULT (2 * 3), b BIT(3) DEFAULT b'101', s VARCHAR(20) DEFAULT 'it''s \\ "x"\n;', x VARBINARY(4) DEFAULT 0x00ff, t TEXT DEFAULT ('a,b)'));
INSERT INTO defaults (u, d, t) VALUES ('u', '2020-01-01', 'x');

CREATE TABLE counters_zero (id INT PRIMARY KEY AUTO_INCREMENT, v INT);
INSERT INTO counters_zero VALUES (0, 1), (-5, 2), (-2147483648, 3), (7, 4);
CREATE TABLE counters_edge (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, v INT) AUTO_INCREMENT = 18446744073709551615;
INSERT INTO counters_edge VALUES (1, 1), (18446744073709551613, 2);
CREATE TABLE counters_full (id TINYINT PRIMARY KEY AUTO_INCREMENT);
INSERT INTO counters_full VALUES (1), (127);
CREATE TABLE counters_ahead (id INT NOT NULL AUTO_INCREMENT, part INT NOT NULL, PRIMARY KEY (part, id), KEY (id)) AUTO_INCREMENT = 5000;
INSERT INTO counters_ahead VALUES (3, 1);
CREATE TABLE counters_empty (id MEDIUMINT UNSIGNED PRIMARY KEY AUTO_INCREMENT) AUTO_INCREMENT = 77;

-- Keys of every shape.
CREATE TABLE no_key (a INT, b VARCHAR(10), KEY (b, a));
INSERT INTO no_key VALUES (3, 'c'), (1, 'a'), (1, 'a'), (NULL, NULL);
CREATE TABLE unique_only (a INT NOT NULL, b INT NOT NULL, c TEXT, UNIQUE KEY (b), KEY (c(10)));
INSERT INTO unique_only VALUES (1, 9, 'x'), (2, 5, 'y'), (3, 7, NULL);
CREATE TABLE composite (a CHAR(3), b INT, c DATE, n INT NOT NULL AUTO_INCREMENT, PRIMARY KEY (a, b, c), KEY (n)) AUTO_INCREMENT = 1000;
INSERT INTO composite VALUES ('b', 1, '2024-01-01', 3), ('a', 2, '2024-01-01', 1), ('a', -1, '2024-01-02', 0);
CREATE TABLE prefix_key (t TEXT, n INT, PRIMARY KEY (t(5)));
INSERT INTO prefix_key VALUES ('zebra', 1), ('apple', 2), ('mango', 3);
CREATE TABLE signed_key (id BIGINT PRIMARY KEY, v INT);
INSERT INTO signed_key VALUES (-9223372036854775808, 1), (9223372036854775807, 2), (0, 3), (-1, 4);
CREATE TABLE unsigned_key (id BIGINT UNSIGNED PRIMARY KEY, v INT);
INSERT INTO unsigned_key VALUES (0, 1), (18446744073709551615, 2), (9223372036854775808, 3);
CREATE TABLE uuid_key (id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY, v INT, KEY (v DESC, id));
INSERT INTO uuid_key VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff', 1), ('00000000-0000-0000-0000-000000000000', 2), ('6ccd780c-baba-1026-9564-5b8c656024db', 3);
CREATE TABLE binary_key (id BINARY(4) PRIMARY KEY, v INT);
INSERT INTO binary_key VALUES (0x00000000, 1), (0xffffffff, 2), (0x5c090a0d, 3), (0x27222700, 4);
CREATE TABLE varbinary_key (id VARBINARY(10) PRIMARY KEY);
INSERT INTO varbinary_key VALUES (''), (0x00), (0x0000), (0x5c), (0x5c5c), (0xff);
CREATE TABLE ci_key (id VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, v INT);
INSERT INTO ci_key VALUES ('b', 1), ('A', 2), ('ä x', 3), ('', 4), ('Z\\', 5), ('ß', 6);
CREATE TABLE desc_key (a INT, b VARCHAR(10), PRIMARY KEY (a DESC, b), KEY down_up (b DESC, a ASC));
INSERT INTO desc_key VALUES (1, 'a'), (1, 'b'), (2, 'a'), (-1, 'z');
CREATE TABLE decimal_key (id DECIMAL(20,5) PRIMARY KEY);
INSERT INTO decimal_key VALUES (-999999999999999.99999), (0), (0.00001), (999999999999999.99999);
CREATE TABLE datetime_key (id DATETIME(6), z TIMESTAMP NOT NULL DEFAULT '2000-01-01 00:00:00', PRIMARY KEY (id, z));
INSERT INTO datetime_key VALUES ('0000-00-00', 0), ('2024-02-30', '2024-02-01'), ('9999-12-31 23:59:59.999999', '2038-01-19 03:14:07');
CREATE TABLE enum_key (id ENUM('z','a','m') PRIMARY KEY, s SET('b','a') NOT NULL, UNIQUE KEY (s));
INSERT INTO enum_key VALUES ('a', 'a'), ('z', 'a,b'), ('m', '');
CREATE TABLE time_key (id TIME(2), y YEAR, b BIT(9), PRIMARY KEY (id, y, b));
INSERT INTO time_key VALUES ('-838:59:59', 0, 0), ('838:59:59', 2155, 511);

-- Tables of parts.
CREATE TABLE parts_range (id INT, at DATE, note TEXT, PRIMARY KEY (id, at)) PARTITION BY RANGE (YEAR(at)) (PARTITION p0 VALUES LESS THAN (2020) COMMENT = 'it''s; old', PARTITION `p 1` VALUES LESS THAN MAXVALUE);
INSERT INTO parts_range VALUES (1, '2019-01-01', 'old words'), (2, '2024-01-01', 'new words');
CREATE TABLE parts_list (id INT PRIMARY KEY, v VARCHAR(9)) PARTITION BY LIST (id) (PARTITION a VALUES IN (1, 2, NULL), PARTITION b VALUES IN (-3, 4));
INSERT INTO parts_list VALUES (1, 'a'), (-3, 'b');
CREATE TABLE parts_hash (id INT PRIMARY KEY AUTO_INCREMENT, v INT) PARTITION BY LINEAR HASH (id) PARTITIONS 3;
INSERT INTO parts_hash VALUES (1, 1), (2, 2), (3, 3), (4, 4);
CREATE TABLE parts_key (id VARCHAR(9) PRIMARY KEY, KEY (id)) PARTITION BY KEY () PARTITIONS 3;
INSERT INTO parts_key VALUES ('a'), ('b'), ('c');
CREATE TABLE parts_columns (a INT, b VARCHAR(9), c DATE, KEY (a)) PARTITION BY RANGE COLUMNS (a, b, c) (PARTITION p0 VALUES LESS THAN (5, 'm', '2020-01-01'), PARTITION p1 VALUES LESS THAN (MAXVALUE, MAXVALUE, MAXVALUE));
INSERT INTO parts_columns VALUES (1, 'a', '2024-01-01'), (5, 'z', NULL), (NULL, NULL, NULL), (1, 'a', '2024-01-01');
CREATE TABLE parts_listed (a VARCHAR(20)) PARTITION BY LIST COLUMNS (a) (PARTITION p0 VALUES IN ('it''s', 'x,y)', '\\'), PARTITION p1 VALUES IN ('z'));
INSERT INTO parts_listed VALUES ('it''s'), ('\\'), ('z');
CREATE TABLE parts_of_parts (id INT, at DATE) PARTITION BY RANGE (YEAR(at)) SUBPARTITION BY HASH (TO_DAYS(at)) (PARTITION p0 VALUES LESS THAN (2000) (SUBPARTITION s0 COMMENT = 'a', SUBPARTITION s1), PARTITION p1 VALUES LESS THAN MAXVALUE (SUBPARTITION s2, SUBPARTITION s3));
INSERT INTO parts_of_parts VALUES (1, '1999-01-01'), (2, '2024-01-01'), (3, NULL);

-- Foreign keys: to itself, in a ring, of every action, of several columns, to a key that is not unique.
CREATE TABLE node (id INT PRIMARY KEY, up INT, CONSTRAINT self FOREIGN KEY (up) REFERENCES node (id) ON DELETE CASCADE);
INSERT INTO node VALUES (1, 2), (2, 1), (3, 3);
CREATE TABLE loop_a (id INT PRIMARY KEY, b INT, FOREIGN KEY (b) REFERENCES loop_b (id));
CREATE TABLE loop_b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES loop_a (id));
INSERT INTO loop_a VALUES (1, 1);
INSERT INTO loop_b VALUES (1, 1);
CREATE TABLE parent (id INT PRIMARY KEY, a INT NOT NULL, b VARCHAR(9) NOT NULL, UNIQUE KEY ab (a, b));
INSERT INTO parent VALUES (1, 1, 'x'), (2, 2, 'y');
CREATE TABLE child (id INT PRIMARY KEY, a INT, b VARCHAR(9), p1 INT, p2 INT, p3 INT, p4 INT, CONSTRAINT `key, of (two)` FOREIGN KEY (a, b) REFERENCES parent (a, b) ON UPDATE CASCADE,
	CONSTRAINT fk1 FOREIGN KEY (p1) REFERENCES parent (id) ON DELETE SET NULL, CONSTRAINT fk2 FOREIGN KEY (p2) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE SET NULL,
	CONSTRAINT fk3 FOREIGN KEY (p3) REFERENCES parent (id) ON DELETE RESTRICT ON UPDATE NO ACTION, FOREIGN KEY own_index (p4) REFERENCES parent (id));
INSERT INTO child VALUES (1, 1, 'x', 1, 2, 1, 2), (2, NULL, 'y', NULL, NULL, NULL, NULL), (3, 1, 'orphan', 99, NULL, NULL, NULL);

-- Checks, kinds of indexes, comments, options.
CREATE TABLE checked (a INT CHECK (a > 0), b VARCHAR(20), c INT, CONSTRAINT b_is CHECK (b IN ('a,b', 'it''s', ')', '\\')), CONSTRAINT CHECK (a < c OR c IS NULL));
INSERT INTO checked VALUES (1, 'it''s', 2), (NULL, '\\', NULL);
CREATE TABLE words (id INT PRIMARY KEY, a TEXT, b TEXT, p POINT NOT NULL, FULLTEXT KEY one (a), FULLTEXT KEY two (a, b) COMMENT 'it''s, )', SPATIAL KEY (p), KEY pre (a(10), b(3)) USING BTREE) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4 COMMENT='a, ''b'' (c';
INSERT INTO words VALUES (1, 'alpha beta', 'gamma', ST_GeomFromText('POINT(1 2)'));
CREATE TABLE remarks (id INT COMMENT 'quote '' double " back \\ line\n semi ; end */ emoji 😀 -- # `', v INT COMMENT '', PRIMARY KEY (id) COMMENT 'key''s \\ */ ; \n', KEY v (v) COMMENT '/* */') COMMENT 'table''s \\ " ; */ /* -- \n\r\t 😀 ) ENGINE=';
INSERT INTO remarks VALUES (1, 1);
CREATE TABLE opts (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE=InnoDB AVG_ROW_LENGTH=100 CHECKSUM=1 DELAY_KEY_WRITE=1 MAX_ROWS=1000 MIN_ROWS=5 PACK_KEYS=1 ROW_FORMAT=DYNAMIC STATS_AUTO_RECALC=0 STATS_PERSISTENT=1 STATS_SAMPLE_PAGES=37 DEFAULT CHARACTER SET latin2 COLLATE latin2_czech_cs;
INSERT INTO opts VALUES (1, 'ř');
CREATE TABLE opts_redundant (id INT PRIMARY KEY, v VARCHAR(20)) ROW_FORMAT=REDUNDANT STATS_PERSISTENT=0;
CREATE TABLE opts_compact (id INT PRIMARY KEY, v VARCHAR(20)) ROW_FORMAT=COMPACT;
CREATE TABLE collated (`a COLLATE b` VARCHAR(9), b ENUM('(', 'x)'' COLLATE utf8mb4_unicode_ci'), c TEXT, d VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci, e VARCHAR(5) COLLATE utf8mb4_bin, f DECIMAL(5,2), l VARCHAR(5) CHARACTER SET latin1, lb VARCHAR(5) CHARACTER SET latin1 COLLATE latin1_bin, n NATIONAL VARCHAR(5), by_ VARCHAR(5) CHARACTER SET binary, PRIMARY KEY (`a COLLATE b`)) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
INSERT INTO collated VALUES ('ä', '(', 'x', 'y', 'z', 1, 'é', 'É', 'ñ', 0xff);
CREATE TABLE nothing (id INT PRIMARY KEY);

-- Engines.
CREATE TABLE mine (id INT PRIMARY KEY AUTO_INCREMENT, t TEXT, FULLTEXT KEY (t), FULLTEXT KEY (t)) ENGINE=MyISAM ROW_FORMAT=DYNAMIC CHECKSUM=1 DELAY_KEY_WRITE=1 PACK_KEYS=0;
INSERT INTO mine (t) VALUES ('a'), ('b');
CREATE TABLE mine_numbered (grp INT, id INT AUTO_INCREMENT, PRIMARY KEY (grp, id)) ENGINE=MyISAM;
INSERT INTO mine_numbered (grp) VALUES (1), (1), (2);
CREATE TABLE mine_fixed (a CHAR(5), b INT) ENGINE=MyISAM ROW_FORMAT=FIXED;
INSERT INTO mine_fixed VALUES ('a ', 1), ('a', 1);
CREATE TABLE hot (id INT, v VARCHAR(9), PRIMARY KEY (id) USING HASH, KEY (v) USING BTREE) ENGINE=MEMORY MAX_ROWS=500;
INSERT INTO hot VALUES (1, 'x'), (2, 'y');
CREATE TABLE plain (a INT NOT NULL, b VARCHAR(20) NOT NULL) ENGINE=CSV;
INSERT INTO plain VALUES (3, 'a,"b\\\n'), (3, '');

-- Names that bite.
CREATE TABLE `we/ird ``.x'"
%41`(`a``b ,(` INT PRIMARY KEY COMMENT 'it''s, (ok)\n', `ü '
"\` VARCHAR(9) DEFAULT 'a,(\'\\');
INSERT INTO `we/ird ``.x'"
%41` VALUES (1, 'x'), (2, '\\');
CREATE TABLE `..` (`.` INT, `FOREIGN KEY` INT, PRIMARY KEY (`.`), KEY `) ENGINE=` (`FOREIGN KEY`));
INSERT INTO `..` VALUES (1, 2);
CREATE TABLE `../../etc` (id INT PRIMARY KEY);
INSERT INTO `../../etc` VALUES (1);
CREATE TABLE `＃☃♥` (id INT PRIMARY KEY, `♥` INT);
INSERT INTO `＃☃♥` VALUES (1, 1);
CREATE TABLE `select` (`from` INT PRIMARY KEY, `PRIMARY KEY` INT, `KEY x (` INT, `1` INT, `1e5` INT, `row_start` INT, `CONSTRAINT` INT, UNIQUE KEY `CONSTRAINT` (`KEY x (`), CONSTRAINT `FOREIGN KEY` FOREIGN KEY (`1`) REFERENCES `select` (`from`), CONSTRAINT `x`` FOREIGN KEY` CHECK (`1e5` <> 5));
INSERT INTO `select` VALUES (1, 2, 3, 1, 4, 5, 6);
CREATE TABLE `1digit` (id INT PRIMARY KEY);
CREATE TABLE `trailing$` (id INT PRIMARY KEY);
CREATE TABLE `$leading` (id INT PRIMARY KEY);
CREATE TABLE `UPPER` (ID INT PRIMARY KEY, Mixed INT);
CREATE TABLE `upper` (id INT PRIMARY KEY);
INSERT INTO `UPPER` VALUES (1, 1);
CREATE TABLE `percent%s%d_under` (id INT PRIMARY KEY);
CREATE TABLE `sixty-four characters, as long as a name of a table may ever be~` (`sixty-four characters, as long as a name of a column may be.!!!~` INT PRIMARY KEY, v INT, KEY `sixty-four characters, as long as the name of an index may be.!~` (v), CONSTRAINT `sixty-four characters, as long as the name of a key may be .!!!~` FOREIGN KEY (v) REFERENCES `sixty-four characters, as long as a name of a table may ever be~` (`sixty-four characters, as long as a name of a column may be.!!!~`));
CREATE TABLE `--` (`/*` INT PRIMARY KEY, `*/` INT, `#` INT, `;` INT, `%` INT, `\` INT, `''` INT, `"` INT);
INSERT INTO `--` VALUES (1, 2, 3, 4, 5, 6, 7, 8);

-- What is no table.
CREATE FUNCTION shout(s VARCHAR(40)) RETURNS VARCHAR(50) DETERMINISTIC NO SQL SQL SECURITY INVOKER COMMENT 'it''s \\ 😀' RETURN CONCAT(UPPER(s), '!;;');
CREATE FUNCTION `now`() RETURNS INT DETERMINISTIC RETURN 1;
CREATE FUNCTION `f ``x`() RETURNS INT DETERMINISTIC RETURN `now`();
CREATE FUNCTION full_type(a DECIMAL(10,2) UNSIGNED, b ENUM('x''y','z')) RETURNS VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin READS SQL DATA RETURN b;
CREATE PROCEDURE two(IN a INT, OUT b VARCHAR(9), INOUT `c d` DECIMAL(5,2)) MODIFIES SQL DATA COMMENT 'it''s; --' BEGIN SELECT 1; SELECT ';;;' AS `a``b`; /* a comment */ -- another
 # and one more
 SELECT 'é😀\\' INTO b; END;
CREATE PROCEDURE `p``.é`() SELECT 1;
CREATE DEFINER = 'left'@'company' PROCEDURE orphan() SELECT 1;
CREATE DEFINER = 'o''dd "us`er'@'%.exa_mple.com' PROCEDURE orphan2() SELECT 1;
SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE';
CREATE PROCEDURE "ansi ""quoted" (IN x INT) SELECT "from", '\' || 'x' FROM "select" WHERE "from" = x;
CREATE TRIGGER "ansi ""trigger" BEFORE DELETE ON "select" FOR EACH ROW SET @a = '\' || "row_start";
SET SESSION sql_mode = 'STRICT_ALL_TABLES,HIGH_NOT_PRECEDENCE';
CREATE FUNCTION strict() RETURNS INT DETERMINISTIC RETURN NOT 1 BETWEEN 0 AND 2;
SET SESSION sql_mode = DEFAULT;
ALTER TABLE parent ADD INDEX named (b);
CREATE VIEW z_base AS SELECT id, a, shout(b) AS loud, b FROM parent WHERE id > 0 WITH CASCADED CHECK OPTION;
CREATE SQL SECURITY INVOKER VIEW a_top AS SELECT z_base.loud, child.id FROM z_base JOIN child ON child.p1 = z_base.id;
CREATE ALGORITHM = MERGE VIEW merged AS SELECT id, v FROM signed_key WHERE v > 1 WITH LOCAL CHECK OPTION;
CREATE ALGORITHM = TEMPTABLE DEFINER = 'left'@'company' SQL SECURITY INVOKER VIEW temped (`a``b`, `select`) AS SELECT 'it''s \\ ; é', COUNT(*) FROM nothing UNION ALL SELECT 'b', 2;
CREATE VIEW `v``.x "'` AS SELECT `..`.`.` AS `.`, `＃☃♥`.`♥` FROM `..` JOIN `＃☃♥`;
CREATE VIEW deep AS WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i, ROW_NUMBER() OVER (ORDER BY i DESC) AS r FROM n;
CREATE TRIGGER second_in BEFORE INSERT ON parent FOR EACH ROW SET NEW.a = NEW.a * 2;
CREATE TRIGGER first_in BEFORE INSERT ON parent FOR EACH ROW PRECEDES second_in SET NEW.a = NEW.a + 1;
CREATE TRIGGER third_in BEFORE INSERT ON parent FOR EACH ROW FOLLOWS second_in BEGIN DECLARE x INT DEFAULT 5; IF NEW.a > x THEN SET NEW.b = 'a;b'; END IF; END;
CREATE TRIGGER a_last BEFORE INSERT ON parent FOR EACH ROW SET @last = NEW.id;
CREATE TRIGGER logged AFTER UPDATE ON parent FOR EACH ROW INSERT INTO nothing VALUES (OLD.id);
CREATE DEFINER = 'left'@'company' TRIGGER orphaned AFTER DELETE ON parent FOR EACH ROW SET @a = 1;
CREATE TRIGGER `tr``.é` BEFORE INSERT ON `we/ird ``.x'"
%41` FOR EACH ROW SET @a = '😀';
SET SESSION time_zone = '+02:00';
CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 02:30:00' ON COMPLETION PRESERVE COMMENT 'say ENABLE; DO' DO INSERT INTO nothing VALUES (1);
SET SESSION time_zone = 'SYSTEM';
CREATE EVENT `off` ON SCHEDULE EVERY '1:30' HOUR_MINUTE DISABLE DO DELETE FROM nothing WHERE id = ' ON COMPLETION PRESERVE ENABLE DO ';
CREATE EVENT ` EVENT ``.é` ON SCHEDULE EVERY 7 WEEK STARTS '2020-01-01 00:00:00' ENDS '2037-01-01 00:00:00' COMMENT ' ON COMPLETION PRESERVE ENABLE DO ' DO BEGIN SET @a = 1; SET @b = 2; END;
CREATE EVENT once ON SCHEDULE AT '2037-05-05 05:05:05' DO SET @a = 1;
SET SESSION timestamp = 1577836800;
CREATE EVENT past ON SCHEDULE AT '2020-05-05 05:05:05' ON COMPLETION PRESERVE DISABLE DO SET @a = 1;
CREATE DEFINER = 'left'@'company' EVENT orphan ON SCHEDULE EVERY 1 YEAR STARTS '2036-01-01 00:00:00' DO SET @a = 1;
SET SESSION timestamp = DEFAULT, time_zone = '+00:00';
