-- A small shop, made by the server itself and the same every time: users, their orders, the items of each order. Each
-- paid order names its receipt, each open one its pre-alert.
CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
USE shop;
SET SESSION sql_log_bin = 0;

CREATE TABLE users (
  id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email      VARCHAR(190) NOT NULL,
  name       VARCHAR(120) NOT NULL,
  settings   JSON,
  credit     DECIMAL(12,2) NOT NULL DEFAULT 0,
  created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  UNIQUE KEY users_email_unique (email)
);
INSERT INTO users (email, name, settings, credit, created_at)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
SELECT CONCAT('user', i, '@shop.example'),
       CONCAT(ELT(1 + i % 6, 'Zoë', 'Marlon', '李', 'Ana', 'Łukasz', 'Keisha'), ' ', ELT(1 + i % 5, 'Brown', 'Müller', 'Ñandú', 'O''Neil', 'Clarke')),
       JSON_OBJECT('locale', ELT(1 + i % 3, 'en', 'de', 'es'), 'newsletter', i % 2 = 0, 'theme', 'dark'),
       i % 500 / 7, TIMESTAMP('2025-01-01') + INTERVAL i MINUTE
FROM n;

CREATE TABLE orders (
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id     BIGINT UNSIGNED NOT NULL,
  status      ENUM('open', 'paid', 'shipped', 'refunded') NOT NULL DEFAULT 'open',
  total_cents INT UNSIGNED NOT NULL,
  weight_kg   FLOAT,
  document    VARCHAR(255) COMMENT 'path below storage: a receipt or a pre-alert',
  note        TEXT,
  created_at  DATETIME NOT NULL,
  KEY orders_user_id_index (user_id),
  KEY orders_status_created_index (status, created_at),
  CONSTRAINT orders_user_id_foreign FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO orders (user_id, status, total_cents, weight_kg, document, note, created_at)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
SELECT 1 + i * 7919 % 20000, ELT(1 + i % 4, 'open', 'paid', 'shipped', 'refunded'), 500 + i * 104729 % 100000, i % 977 / 13,
       CASE WHEN i > 1200 THEN NULL WHEN i % 4 = 0 THEN CONCAT('pre-alerts/', LPAD(i, 6, '0'), '.json')
            ELSE CONCAT('receipts/2026/', LPAD(1 + i % 12, 2, '0'), '/', LPAD(i, 6, '0'), '.pdf') END,
       IF(i % 3 = 0, REPEAT(CONCAT(LEFT(SHA2(i, 256), 32), ' gift wrap\tplease\n'), 1 + i % 4), NULL),
       TIMESTAMP('2025-06-01') + INTERVAL i * 3 MINUTE
FROM n;

CREATE TABLE order_items (
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id    BIGINT UNSIGNED NOT NULL,
  sku         CHAR(12) NOT NULL,
  quantity    SMALLINT UNSIGNED NOT NULL,
  price_cents INT UNSIGNED NOT NULL,
  total_cents INT UNSIGNED AS (quantity * price_cents) STORED,
  fingerprint BINARY(16) NOT NULL,
  KEY order_items_sku_index (sku),
  CONSTRAINT order_items_order_id_foreign FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE
);
INSERT INTO order_items (order_id, sku, quantity, price_cents, fingerprint)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 350000)
SELECT 1 + i * 7877 % 120000, CONCAT('SKU-', LPAD(i * 31 % 40000, 8, '0')), 1 + i % 9, 99 + i * 17 % 9900, UNHEX(LEFT(SHA2(i, 256), 32))
FROM n;

-- What an application keeps in its database besides tables.
CREATE USER 'shop_app'@'127.0.0.1';
GRANT ALL ON shop.* TO 'shop_app'@'127.0.0.1';
CREATE TABLE order_log (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, order_id BIGINT UNSIGNED NOT NULL, what VARCHAR(40) NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE DEFINER = 'shop_app'@'127.0.0.1' FUNCTION euros (cents BIGINT) RETURNS DECIMAL(12,2) DETERMINISTIC RETURN cents / 100;
CREATE DEFINER = 'shop_app'@'127.0.0.1' VIEW open_orders AS
  SELECT orders.id, users.email, orders.created_at FROM orders JOIN users ON users.id = orders.user_id WHERE orders.status = 'open';
CREATE DEFINER = 'shop_app'@'127.0.0.1' TRIGGER order_changed AFTER UPDATE ON orders FOR EACH ROW
  INSERT INTO order_log (order_id, what) VALUES (NEW.id, CONCAT(OLD.status, ' to ', NEW.status));
CREATE DEFINER = 'shop_app'@'127.0.0.1' EVENT forget_old_logs ON SCHEDULE EVERY 1 DAY DO DELETE FROM order_log WHERE at < NOW() - INTERVAL 90 DAY;
