// Package mysql is the database component: it takes the schemas of a source from a MySQL or MariaDB server into a part of
// a backup, and brings a part back beside the live schemas, proves it, and exchanges the two.
//
// # The words
//
// A part holds, for each table, its definition and its rows as tab-separated text in the format of LOAD DATA, cut into
// ranges of the primary key; and the text of whatever is no table. A stage is a schema _remora_<run>_<n>_b<attempt> for
// each schema of the source, that the tables of a part were loaded into. Switching moves the live tables out to the
// schemas _remora_<run>_<n>_a and those of the stage in, with one RENAME TABLE, and drops and creates everything else
// around it (decision 0018). The sides are called a and b because a rollback exchanges their roles: a is where the replaced
// tables lie while they are put away, b is where the restored ones lie.
//
// A restore may move some tables alone; foreign keys across the border of what it moves are taken off before the RENAME and
// put back after it (border.go, decision 0027). A copy is a restore whose live place is another schema (copy.go, decision
// 0029). A preview compares what is live with a part and changes nothing; an export writes a part without any server.
//
// # What holds it together
//
// One connection does everything that destroys or moves: it holds a named lock of the server, it is never replaced
// behind our back, and a successor kills it before it takes the lock itself (S3). The journal, the table
// _remora.journal, is written before each step (S4). The fence is a table that lies in whichever schema holds the data
// that is not live, beside the tables of the first schema; the switching RENAME moves it too. So where the fence lies is
// the truth about which side is live, and whoever names an old fence moves nothing.
//
// Rows are read by a packet reader that passes on the server's own bytes (reader.go), everything else goes through
// database/sql.
package mysql
