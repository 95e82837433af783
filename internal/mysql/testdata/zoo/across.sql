-- What one schema of a source holds of another: the file is run in the first, OTHER is the second.
CREATE TABLE OTHER.notes (id INT PRIMARY KEY, of_parent INT, CONSTRAINT whose FOREIGN KEY (of_parent) REFERENCES parent (id) ON DELETE CASCADE);
INSERT INTO OTHER.notes VALUES (1, 1), (2, 2);
ALTER TABLE parent ADD COLUMN note INT, ADD CONSTRAINT noted FOREIGN KEY (note) REFERENCES OTHER.notes (id) ON UPDATE SET NULL;
UPDATE parent SET note = 2 WHERE id = 1;
CREATE TABLE OTHER.parent (id INT PRIMARY KEY, up INT, CONSTRAINT whose_too FOREIGN KEY (up) REFERENCES parent (id));
CREATE VIEW OTHER.later AS SELECT 1 AS one;
CREATE VIEW both_of AS SELECT notes.id FROM OTHER.notes JOIN OTHER.later JOIN parent ON parent.id = notes.of_parent;
CREATE VIEW OTHER.z_top AS SELECT b.id, p.a FROM both_of b JOIN parent p;
USE OTHER;
CREATE TRIGGER across AFTER INSERT ON notes FOR EACH ROW UPDATE OTHER.parent SET up = NULL WHERE id = NEW.id;
