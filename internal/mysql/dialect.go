package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// server is what a connection found at its other end. MySQL and MariaDB differ in what they are asked and how: what their
// versions have in common is in dialects, the rest is said by its methods.
type server struct {
	Version string `json:"version"`
	Comment string `json:"comment,omitempty"`
	// UUID tells servers apart: MySQL's own, and what comes closest to one on MariaDB (decision 0016).
	UUID string `json:"uuid"`
	// LowerCase is lower_case_table_names: servers that differ in it read names differently.
	LowerCase int `json:"lower_case_table_names"`

	host string // of MariaDB alone
	role string // the statement that lets an account do what its roles may
	// processes is the table that lists who is connected. That of information_schema cannot be read on MySQL while the text
	// of anybody's statement is no text (error 3854).
	processes string
}

// mariadb tells whether it is MariaDB rather than MySQL.
func (v server) mariadb() bool {
	return strings.Contains(strings.ToLower(v.Version+v.Comment), "mariadb")
}

// dialect is what the servers of one maker say alike, and those of the other differently.
type dialect struct {
	maker string
	// pinned makes every session mean the same by the same text, whatever the server's defaults are. An instant statistic
	// costs a little and saves a day-old one.
	pinned string
	// limit bounds the statements of a session, in so many of its units.
	limit string
	unit  time.Duration
	// explain asks how many rows a SELECT would read, rows is the column of the answer.
	explain string
	rows    int
	// foreignKeys is the table that lists those of the whole server, tableName decodes the names in it: MariaDB writes them
	// as it names files.
	foreignKeys, tableName string
	// schemaColumns are what only one of the servers knows of a schema: whether it is encrypted, and its comment.
	schemaColumns string
	// seal keeps definitions as they are until unseal; sealing are the rights without which a snapshot is one session's.
	seal, sealing []string
	unseal        string
	// logRight is the right to see where the binary log stands, unlogRight that to keep something out of it.
	logRight, unlogRight string
	// grantsMean asks whether wildcards mean nothing in grants, and whether there are active roles.
	grantsMean string
	// persist is how SET keeps a value beyond a restart, where it can.
	persist string
	// localInfile says how to let the server take rows from a client.
	localInfile string
	// keyHint is what a script says of foreign keys that the server may refuse.
	keyHint string
}

// dialects are the two, by whether it is that of MariaDB.
var dialects = map[bool]*dialect{
	false: {
		maker:         "MySQL",
		pinned:        "max_execution_time = 0, show_gipk_in_create_table_and_information_schema = ON, information_schema_stats_expiry = 0",
		limit:         "SET SESSION max_execution_time = %d",
		unit:          time.Millisecond,
		explain:       "EXPLAIN FORMAT=TRADITIONAL",
		rows:          9,
		foreignKeys:   "information_schema.innodb_foreign",
		tableName:     "%s",
		schemaColumns: "default_encryption, ''",
		seal:          []string{"LOCK INSTANCE FOR BACKUP"},
		sealing:       []string{"BACKUP_ADMIN", "FLUSH_TABLES", "PROCESS"},
		unseal:        "UNLOCK INSTANCE",
		logRight:      "REPLICATION CLIENT",
		unlogRight:    "SESSION_VARIABLES_ADMIN",
		grantsMean:    "@@partial_revokes, CURRENT_ROLE() <> 'NONE'",
		persist:       "SET PERSIST ",
		localInfile:   "SET PERSIST local_infile = ON; on the server, as an administrator",
		keyHint:       "-- If a foreign key is refused with error 6125: SET SESSION restrict_fk_on_non_standard_key = OFF; first.\n",
	},
	true: {
		maker:         "MariaDB",
		pinned:        "max_statement_time = 0, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, idle_write_transaction_timeout = 0, system_versioning_asof = DEFAULT, system_versioning_alter_history = KEEP",
		limit:         "SET SESSION max_statement_time = %d",
		unit:          time.Second,
		explain:       "EXPLAIN",
		rows:          8,
		foreignKeys:   "information_schema.innodb_sys_foreign",
		tableName:     "CONVERT(CONVERT(CAST(%s AS BINARY) USING filename) USING utf8mb4)",
		schemaColumns: "'NO', schema_comment",
		seal:          []string{"BACKUP STAGE START", "BACKUP STAGE BLOCK_DDL"},
		sealing:       []string{"RELOAD", "PROCESS"},
		unseal:        "BACKUP STAGE END",
		logRight:      "BINLOG MONITOR",
		unlogRight:    "BINLOG ADMIN",
		grantsMean:    "FALSE, FALSE",
		persist:       "SET GLOBAL ",
		localInfile:   "SET GLOBAL local_infile = ON; on the server, as an administrator, and local_infile = ON in its configuration file",
	},
}

func (v server) dialect() *dialect { return dialects[v.mariadb()] }

func (v server) maker() string { return v.dialect().maker }

// client is the name of its maker's client.
func (v server) client() string { return strings.ToLower(v.maker()) }

// sealing are the rights without which a snapshot is one session's.
func (v server) sealing() []string { return v.dialect().sealing }

// String is how people call it: MySQL 9.7.4-2, MariaDB 11.8.9.
func (v server) String() string {
	version, _, _ := strings.Cut(v.Version, "-MariaDB")
	return v.maker() + " " + version
}

// identity is by what a plan knows its server: between plan and restore another one must not take its place (S12).
func (v server) identity() string { return v.UUID + v.host }

var versionNumber = regexp.MustCompile(`^(\d+)\.(\d+)`)

func (v server) numbers() (major, minor int) {
	if m := versionNumber.FindStringSubmatch(v.Version); m != nil {
		major, _ = strconv.Atoi(m[1])
		minor, _ = strconv.Atoi(m[2])
	}
	return major, minor
}

// since tells whether it is that version or a later one.
func (v server) since(major, minor int) bool {
	a, b := v.numbers()
	return a > major || a == major && b >= minor
}

// sameKind tells whether digests that the server itself computes mean the same on both.
func (v server) sameKind(w server) bool {
	a, b := v.numbers()
	return v.mariadb() == w.mariadb() && w.since(a, b) && !w.since(a, b+1)
}

// supported refuses, by name, servers that this component has not been tried on.
func (v server) supported() error {
	refuse := func(name, why string) error {
		return remora.Fail(remora.Unsupported, "recognise the server", name, "use MySQL 8.0, MariaDB 10.6, or later", "%s", why)
	}
	for _, other := range []string{"TiDB", "Vitess", "OceanBase", "SingleStore"} {
		if strings.Contains(strings.ToLower(v.Version+" "+v.Comment), strings.ToLower(other)) {
			return refuse(other+" ("+v.Version+")", other+" is not supported yet")
		}
	}
	if v.mariadb() && !v.since(10, 6) || !v.since(8, 0) { // before 10.6 a crash could leave half a RENAME
		return refuse(v.String(), "this version is not supported")
	}
	return nil
}

// recognise finds out what server this is.
func (s *session) recognise(ctx context.Context) error {
	v := &s.server
	if err := s.row(ctx, "SELECT VERSION(), @@version_comment, @@lower_case_table_names").Scan(&v.Version, &v.Comment, &v.LowerCase); err != nil {
		return err
	}
	if err := v.supported(); err != nil {
		return err
	}
	if !v.mariadb() {
		v.role = "SET ROLE ALL"
		return s.row(ctx, `SELECT @@server_uuid, CONCAT(IF(@@performance_schema AND EXISTS (SELECT 1 FROM information_schema.tables
			WHERE table_schema = 'performance_schema' AND table_name = 'processlist'), 'performance', 'information'), '_schema.processlist')`).Scan(&v.UUID, &v.processes)
	}
	v.processes = "information_schema.processlist"
	var id, port, datadir string
	if err := s.row(ctx, "SELECT @@server_id, @@port, @@datadir, @@hostname").Scan(&id, &port, &datadir, &v.host); err != nil {
		return err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", id, port, datadir))
	v.UUID = hex.EncodeToString(sum[:16])
	return s.chooseRole(ctx)
}

// chooseRole enables the role that an account has. MariaDB has one active role at a time: where there is a default, or a
// choice, that is left as it is.
func (s *session) chooseRole(ctx context.Context) error {
	s.server.role = "DO 1"
	var roles int
	var role sql.NullString
	err := s.row(ctx, `SELECT COUNT(*), MAX(role_name) FROM information_schema.applicable_roles
		WHERE grantee = CURRENT_USER() AND CURRENT_ROLE() IS NULL`).Scan(&roles, &role)
	if roles == 1 {
		s.server.role = "SET ROLE " + quote(role.String)
	}
	return err
}

// pinned are the assignments of every session.
func (v server) pinned() string {
	return "SET SESSION autocommit = 1, time_zone = '+00:00', sql_mode = '', sql_quote_show_create = 1, group_concat_max_len = 1048576, " + v.dialect().pinned
}

// loading are the assignments of sessions that build a stage: zeros in AUTO_INCREMENT columns, dates that some setting
// once let in, rows that a CHECK no longer takes, and the history of system-versioned tables come back as they were.
func (v server) loading() []string {
	all := []string{"sql_mode = '" + loadMode + "'", "foreign_key_checks = 0"}
	if v.mariadb() {
		all = append(all, "check_constraint_checks = 0")
		if v.keepsHistory() {
			all = append(all, "system_versioning_insert_history = 1")
		}
	}
	return all
}

// keepsHistory tells whether the server takes rows of the past.
func (v server) keepsHistory() bool { return v.mariadb() && v.since(10, 11) }

// tableIn is the schema and the name of the table that a column of the list of foreign keys names.
func (v server) tableIn(column string) string {
	decoded := v.dialect().tableName
	return fmt.Sprintf(decoded+", "+decoded, "SUBSTRING_INDEX("+column+", '/', 1)", "SUBSTRING("+column+", LOCATE('/', "+column+") + 1)")
}

// readOnlySchema is what tells that nothing may be changed in a schema.
const readOnlySchema = "that the schema is READ ONLY"

// unwritten are queries for what is in no definition of a schema, by what it is.
func (v server) unwritten() map[string]string {
	if v.mariadb() {
		return map[string]string{"REF_SYSTEM_ID of columns": `SELECT CONCAT(g_table_name, '.', g_geometry_column) FROM information_schema.geometry_columns WHERE BINARY g_table_schema = ? AND srid <> 0`}
	}
	all := map[string]string{"histograms of columns": `SELECT CONCAT(table_name, '.', column_name) FROM information_schema.column_statistics WHERE BINARY schema_name = ?`}
	if v.since(8, 1) {
		all[readOnlySchema] = `SELECT schema_name FROM information_schema.schemata_extensions WHERE BINARY schema_name = ? AND options LIKE '%READ ONLY=1%'`
	}
	return all
}

// logStatus is where the binary log stands, and what is kept out of it. It is empty when the log is off.
type logStatus struct {
	position
	doDB, ignoreDB string
}

func (s *session) logStatus(ctx context.Context) (l logStatus, err error) {
	all, err := s.records(ctx, s.server.named("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS", "SHOW MASTER STATUS"))
	if err != nil || len(all) == 0 {
		return l, err
	}
	r := all[0]
	l.File, l.doDB, l.ignoreDB, l.GTID = r["file"], r["binlog_do_db"], r["binlog_ignore_db"], strings.ReplaceAll(r["executed_gtid_set"], "\n", "")
	l.Offset, err = strconv.ParseUint(r["position"], 10, 64)
	if err == nil && s.server.mariadb() { // it answers without the GTID
		err = s.row(ctx, "SELECT @@gtid_binlog_pos").Scan(&l.GTID)
	}
	return l, err
}

// named chooses the words for what has had three names.
func (v server) named(now, before, mariadb string) string {
	switch {
	case v.mariadb():
		return mariadb
	case v.since(8, 2):
		return now
	}
	return before
}

// behind is how far the server is behind its source, beyond what it is told to be: of several sources, behind the furthest.
// unknown says why that cannot be told, or not of all.
func (s *session) behind(ctx context.Context) (lag time.Duration, unknown string, err error) {
	all, err := s.records(ctx, s.server.named("SHOW REPLICA STATUS", "SHOW SLAVE STATUS", "SHOW ALL SLAVES STATUS"))
	if len(all) == 0 {
		unknown = "this server is not a replica, and how far others are behind is not seen from here"
	}
	for _, r := range all {
		seconds, stopped := strconv.Atoi(r["seconds_behind_source"] + r["seconds_behind_master"]) // it has one of them
		told, _ := strconv.Atoi(r["sql_delay"])
		if lag = max(lag, time.Duration(seconds-told)*time.Second); stopped != nil {
			unknown = "replication has stopped"
		}
	}
	return lag, unknown, err
}
