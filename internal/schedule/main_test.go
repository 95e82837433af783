package schedule

import (
	"os"
	"testing"

	"github.com/remora-backup/remora/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Run(m)) }
