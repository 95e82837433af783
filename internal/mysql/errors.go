package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"slices"

	protocol "github.com/go-mysql-org/go-mysql/mysql"
	sqldriver "github.com/go-sql-driver/mysql"

	"github.com/remora-backup/remora/internal/remora"
)

// The error codes of the server that we act on.
const (
	codeCannotCreate    = 1005
	codeLoginDenied     = 1045
	codeUnknownSchema   = 1049
	codeTableExists     = 1050
	codeTableDenied     = 1142
	codeUnknownTable    = 1146
	codeUnknownVariable = 1193
	codeLockWait        = 1205
	codeRightDenied     = 1227
	codeReadOnly        = 1290
	codeNoFunction      = 1305
	codeViewInvalid     = 1356
	codeTrustDefiner    = 1419
	codeNoDefiner       = 1449
	codeDefinition      = 1412
	codeMixedGTID       = 1785
	codeKeyNotStandard  = 6125
	codeNoSuchColumn    = 1072
	codeNoParentIndex   = 1822
	codeUnlikeColumns   = 3780
	codeLocalRows       = 4166 // MariaDB's 3948
)

// kinds translates the server's codes for people and for the retry policy.
var kinds = map[uint16]remora.ProblemKind{
	1044: remora.Denied, codeLoginDenied: remora.Denied, codeTableDenied: remora.Denied,
	1143: remora.Denied, codeRightDenied: remora.Denied, 1410: remora.Denied,
	1129: remora.Denied, 1130: remora.Denied, 1251: remora.Denied, 1396: remora.Denied, 1698: remora.Denied,
	1820: remora.Denied, 1862: remora.Denied, 3118: remora.Denied, 3948: remora.Denied, 1148: remora.Denied,
	codeLocalRows: remora.Denied, codeReadOnly: remora.Denied, 1418: remora.Denied, codeTrustDefiner: remora.Denied, 1836: remora.Denied, codeKeyNotStandard: remora.Denied,
	codeUnknownSchema: remora.NotFound, codeUnknownTable: remora.Changed, 1435: remora.Changed,
	codeDefinition: remora.Busy, codeLockWait: remora.Busy, 1213: remora.Busy,
	1040: remora.Unavailable, 1053: remora.Unavailable, 1077: remora.Unavailable, 1158: remora.Unavailable,
	1159: remora.Unavailable, 1160: remora.Unavailable, 1161: remora.Unavailable, 1203: remora.Unavailable,
	1226: remora.Unavailable, 1969: remora.Unavailable, 1317: remora.Unavailable, 1927: remora.Unavailable, 2006: remora.Unavailable,
	2013: remora.Unavailable, 4031: remora.Unavailable, 3168: remora.Unavailable,
	3: remora.Full, 1021: remora.Full, 1114: remora.Full, 1026: remora.Full, 1197: remora.Full, 3675: remora.Full,
}

// noRoom is how MariaDB says of a table that it could not be created on a disk that is full.
var noRoom = regexp.MustCompile(`\(errno: (28|135) `)

// telling are the codes whose text may be passed on although they are not in kinds: it names objects, never values.
// Texts such as "Duplicate entry '…'" hold row data and stay behind.
var telling = []uint16{
	codeCannotCreate, 1007, 1008, 1022, 1046, codeTableExists, 1051, 1054, codeNoSuchColumn, 1115, 1117, 1118, 1119, 1146, codeUnknownVariable, 1195, 1215, 1231,
	1273, 1283, 1298, 1304, 1305, codeViewInvalid, 1359, codeNoDefiner, 1450, 1537, codeNoParentIndex, 1824, 1826, 3008, 3185, 3730, codeUnlikeColumns, 3819, 3821, 3825,
}

// answer is the server's error code in err, 0 when there is none, and its own text.
func answer(err error) (code uint16, message string) {
	var a *sqldriver.MySQLError
	var b *protocol.MyError
	switch {
	case errors.As(err, &a):
		return a.Number, a.Message
	case errors.As(err, &b):
		return b.Code, b.Message
	}
	return 0, ""
}

func codeOf(err error) uint16 {
	code, _ := answer(err)
	return code
}

func isCode(err error, codes ...uint16) bool { return slices.Contains(codes, codeOf(err)) }

// lost tells whether err means that the connection is gone, and with it the answer to what was asked last.
func lost(err error) bool {
	var network net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sqldriver.ErrInvalidConn) ||
		errors.Is(err, protocol.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &network) || isCode(err, 1053, 1317, 1927, 2006, 2013, 4031)
}

// problem translates err into what a person may see. A Problem passes through, a cancelled context too: with its cause
// when that is a Problem, since then it was us who gave up. Nothing of a row ever gets into the text.
func (d *Database) problem(ctx context.Context, op, subject string, err error) error {
	if err == nil {
		return nil
	}
	var known *remora.Problem
	if errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		if errors.As(cause, &known) {
			return cause
		}
		return fmt.Errorf("%s: %w", op, cause)
	}
	p := &remora.Problem{Op: op, Subject: subject, Err: scrubbed(err)}
	code, message := answer(err)
	switch kind, ok := kinds[code]; {
	case ok:
		p.Kind = kind
	case code == codeCannotCreate && noRoom.MatchString(message):
		p.Kind = remora.Full
	case errors.As(err, new(*fs.PathError)) && errors.Is(err, fs.ErrNotExist): // a file, where a socket is none
		p.Kind = remora.Corrupt
	case code == 0 && lost(err):
		p.Kind = remora.Unavailable
	default:
		p.Kind = remora.Internal
	}
	p.Hint = d.hint(code, p.Kind)
	return p
}

// hints say what to do about these codes.
var hints = map[uint16]string{
	codeLoginDenied: wrongLogin, 1698: wrongLogin,
	1129: refusesHost, 1130: refusesHost,
	1148: dialects[false].localInfile, 3948: dialects[false].localInfile, codeLocalRows: dialects[true].localInfile,
	codeReadOnly: readOnly, 1836: readOnly,
	codeKeyNotStandard: "GRANT SESSION_VARIABLES_ADMIN ON *.* to the restore user, or SET PERSIST restrict_fk_on_non_standard_key = OFF",
	codeTrustDefiner:   trustCreators, 1418: trustCreators,
	codeDefinition: altered, codeUnknownTable: altered,
}

const (
	wrongLogin    = "check the user and the password in the configuration; the server does not say which of them is wrong"
	refusesHost   = "the server refuses this host: CREATE USER for this host, or FLUSH HOSTS"
	readOnly      = "the server is read-only: restore on the primary"
	trustCreators = "SET GLOBAL log_bin_trust_function_creators = ON; on the server, as an administrator, and the same in its configuration file: it logs to a binary log, and so demands SUPER for triggers and functions"
	altered       = "a table was altered at the same moment: try again when the migration is over"
)

// hint says what to do about a code, or else about its kind.
func (d *Database) hint(code uint16, kind remora.ProblemKind) string {
	return cmp.Or(hints[code], map[remora.ProblemKind]string{
		remora.Denied:      "run `remora init` again: it prints the GRANT statement that is missing",
		remora.Unavailable: fmt.Sprintf("is the server running at %s, and does it stay up?", d.cfg.Address),
		remora.Full:        "free space on the server's data directory or its tmpdir",
	}[kind])
}

// scrubbed keeps of a server's error what cannot hold row data.
func scrubbed(err error) error {
	code, message := answer(err)
	if code == 0 {
		return err
	}
	if _, ok := kinds[code]; ok || slices.Contains(telling, code) {
		return fmt.Errorf("%s (error %d)", message, code)
	}
	return fmt.Errorf("the server answered with error %d", code)
}
