package control

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func TestWhatIsAtWorkOnASource(t *testing.T) {
	lane := func(workflow string) look { return look{id: "op/shop", workflow: workflow, open: true} }
	restore := look{id: "restore/shop", workflow: remora.RestoreWorkflow, open: true}
	window := remora.Restore{Outcome: remora.OutcomeApplied}
	for name, c := range map[string]struct {
		state     state
		top, work string
	}{
		"nothing":                            {state{}, "", ""},
		"a backup":                           {state{lane: lane(remora.BackupWorkflow)}, "op/shop", "op/shop"},
		"a restore before its lane":          {state{restore: restore}, "restore/shop", "restore/shop"},
		"a restore in its lane":              {state{restore: restore, lane: lane(remora.ApplyWorkflow)}, "restore/shop", "op/shop"},
		"what a terminated restore began":    {state{lane: lane(remora.ApplyWorkflow)}, "op/shop", "op/shop"},
		"an undo window":                     {state{restore: restore, record: window}, "", ""},
		"a rollback in the window":           {state{restore: restore, record: window, lane: lane(remora.TurnWorkflow)}, "op/shop", "op/shop"},
		"a backup in the window":             {state{restore: restore, record: window, lane: lane(remora.BackupWorkflow)}, "op/shop", "op/shop"},
		"a restore that still says it opens": {state{restore: look{id: "restore/shop", open: true, steps: []step{{}}}, record: window}, "restore/shop", "restore/shop"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.top, c.state.top().id)
			require.Equal(t, c.work, c.state.work().id)
		})
	}
}
