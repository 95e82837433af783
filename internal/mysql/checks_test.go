package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

func TestChecksAskTheLiveSchemaAndChangeNothing(t *testing.T) {
	testenv.EachMaker(t, asksTheLiveSchema)
}

func asksTheLiveSchema(t *testing.T, server *testenv.MySQLServer) {
	schema, db := server.Schema(t), server.DB(t)
	for _, statement := range []string{
		"CREATE TABLE " + schema + ".users (id INT PRIMARY KEY, secret VARCHAR(20) UNIQUE, n DOUBLE, b BIT(1))",
		"CREATE FUNCTION " + schema + ".loud(s VARCHAR(20)) RETURNS VARCHAR(20) DETERMINISTIC RETURN UPPER(s)",
		"INSERT INTO " + schema + ".users VALUES (1, 'hunter2', 0.5, 1), (2, NULL, 0, 0)",
	} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	d, err := New(Config{
		Source: "shop", Installation: "test", Address: server.Address, User: "root", Schemas: []string{schema},
		Password: func() (remora.Secret, error) { return "", nil },
	})
	require.NoError(t, err)
	for query, want := range map[string]string{
		"SELECT COUNT(*) > 0 FROM users":                        "",
		"SELECT id = 1, secret FROM users WHERE id = 1":         "",
		"SELECT n FROM users WHERE id = 1":                      "",
		"SELECT COUNT(*) = 2 FROM {{" + schema + "}}.users":     "",
		"SELECT loud(secret) LIKE 'H%' FROM users WHERE id = 1": "",
		"SELECT TRUE":                                         "",
		"SELECT DATABASE() = '" + schema + "'":                "",
		"WITH x AS (SELECT 1 AS a) SELECT a FROM x":           "",
		"SELECT n FROM users WHERE id = 2":                    "its first column is not true",
		"SELECT secret FROM users WHERE id = 1":               "its first column is not true",
		"SELECT NULL":                                         "its first column is not true",
		"SELECT 1 FROM users":                                 "it gives more than one row",
		"SELECT 1 FROM users WHERE id = 3":                    "it gives no row",
		"SELECT 1 FROM nothing":                               "(error 1146)",
		"SELECT nothing FROM users":                           "Unknown column",
		"SELECT":                                              "error 1064",
		"SELECT 1; SELECT 1":                                  "error 1064",
		"SELECT CAST(secret AS JSON) FROM users WHERE id = 1": "the server answered with error",
		"DELETE FROM users":                                   "it would change something",
		"DROP TABLE users":                                    "it would change something",
		"TRUNCATE users":                                      "it would change something",
		"CREATE TABLE y (id INT)":                             "it would change something",
		"CREATE USER somebody":                                "it would change something",
	} {
		if server.MariaDB() && strings.Contains(query, "AS JSON") {
			continue // it has no such type
		}
		why, err := d.Check(t.Context(), query)
		require.NoError(t, err, query)
		if want == "" {
			require.Empty(t, why, query)
		}
		require.Contains(t, why, want, query)
		require.NotContains(t, why, "hunter2", query)
	}
	var left int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+schema+".users").Scan(&left))
	require.Equal(t, 2, left)

	lost := *d
	lost.cfg.Address = "127.0.0.1:1"
	_, err = lost.Check(t.Context(), "SELECT 1")
	require.Equal(t, remora.Unavailable, remora.KindOf(err), "no answer is not a no")
	gone := *d
	gone.cfg.Schemas = []string{strings.Repeat("x", 30)}
	why, err := gone.Check(t.Context(), "SELECT 1")
	require.NoError(t, err)
	require.Contains(t, why, "Unknown database")
}
