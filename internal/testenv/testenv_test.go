package testenv_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Run(m)) }

func TestBothServersComeUp(t *testing.T) {
	mysql, temporal := testenv.Both(t)
	require.NoError(t, mysql.DB(t).PingContext(t.Context()))
	require.NotNil(t, temporal.Client(t))
}
