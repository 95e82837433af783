package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/activity/v1"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// processFaults are those of processes, of servers and of people.
func processFaults() []fault {
	restore := func(k *torture) string { return remora.RestoreLane(k.source()) }
	lane := func(k *torture) string { return remora.Lane(k.source()) }
	return []fault{
		{id: "F1", name: "worker killed", harmless: true, strike: func(k *torture, _ step) (func(), error) {
			k.killWorker()
			k.startWorker()
			return nil, nil
		}},
		{id: "F4", name: "worker frozen for longer than its heartbeat", strike: freeze},
		{id: "F5", name: "worker asked to stop", harmless: true, strike: func(k *torture, _ step) (func(), error) {
			k.stopWorker()
			k.startWorker()
			return nil, nil
		}},
		{id: "F6", name: "worker killed for want of memory", harmless: true, cannot: func(k *torture) error { return k.why }, strike: starve},
		{id: "F7", name: "connections killed in MySQL", strike: killConnections, at: func(p phase) bool {
			return strings.HasPrefix(p.activity, string(remora.Database)) || p.activity == remora.ChecksActivity
		}},
		{id: "F8", name: "MySQL killed and started again", strike: func(k *torture, _ step) (func(), error) {
			k.restartMySQL() // it is killed for that
			return nil, nil
		}},
		{id: "F31", name: "Temporal killed and started again", harmless: true, strike: func(k *torture, _ step) (func(), error) {
			k.temporal.Kill(k.t)
			k.temporal.Restart(k.t)
			return nil, nil
		}},
		{id: "F36", name: "a backup, a slot and a cleanup meanwhile", harmless: true, strike: everythingElse},
		{id: "F37", name: "cancelled by the command", strike: func(k *torture, _ step) (func(), error) {
			require.NoError(k.t, k.worker.Process.Signal(syscall.SIGSTOP)) // the command takes longer than many a step
			defer func() { require.NoError(k.t, k.worker.Process.Signal(syscall.SIGCONT)) }()
			if out, code := k.remora("cancel", k.source()); code != 3 { // what must not stop half-way says so
				require.Zero(k.t, code, out)
			}
			return nil, nil
		}},
		{id: "F37", name: "cancelled in Temporal", strike: func(k *torture, _ step) (func(), error) {
			return nil, k.client.CancelWorkflow(k.t.Context(), restore(k), "")
		}},
		{id: "F37", name: "terminated in Temporal", lost: true, strike: func(k *torture, _ step) (func(), error) {
			return nil, k.terminate(restore(k))
		}},
		{id: "F37", name: "its step terminated in Temporal", strike: func(k *torture, _ step) (func(), error) {
			return nil, k.terminate(lane(k))
		}},
		{id: "F37", name: "all of it terminated in Temporal", lost: true, strike: func(k *torture, _ step) (func(), error) {
			return nil, errors.Join(k.terminate(restore(k)), k.terminate(lane(k)))
		}},
		{id: "F40", name: "a second restore meanwhile", harmless: true, at: func(p phase) bool {
			return p.story == restoring || p.story == undoing // else it is welcome a moment later
		}, strike: func(k *torture, _ step) (func(), error) {
			out, code := k.remora("restore", "good", "--force")
			require.Equal(k.t, 3, code, out)
			return nil, nil
		}},
	}
}

func (k *torture) terminate(id string) error {
	return k.client.TerminateWorkflow(k.t.Context(), id, "", "the test does")
}

// freeze stops the worker as a machine that pauses would, until another one has taken its step over, and lets it go on
// then. The step's heartbeat is made shorter, as an operator can: minutes would be all the same.
func freeze(k *torture, at step) (heal func(), err error) {
	frozen := k.worker
	k.strays = append(k.strays, frozen)
	require.NoError(k.t, frozen.Process.Signal(syscall.SIGSTOP))
	defer func() { require.NoError(k.t, frozen.Process.Signal(syscall.SIGCONT)) }()
	k.startWorker()
	lane := &common.WorkflowExecution{WorkflowId: remora.Lane(k.source()), RunId: at.run}
	_, err = k.client.WorkflowService().UpdateActivityOptions(k.t.Context(), &workflowservice.UpdateActivityOptionsRequest{
		Namespace: k.temporal.Namespace, Execution: lane, Identity: "the test",
		Activity:        &workflowservice.UpdateActivityOptionsRequest_Id{Id: at.id},
		ActivityOptions: &activity.ActivityOptions{HeartbeatTimeout: durationpb.New(3 * time.Second)},
		UpdateMask:      &fieldmaskpb.FieldMask{Paths: []string{"heartbeat_timeout"}},
	})
	if err != nil {
		return nil, err
	}
	err = errors.New("it was over already")
	testenv.Wait(k.t, time.Minute, "another worker to take over", func() error {
		d, gone := k.client.DescribeWorkflowExecution(k.t.Context(), lane.WorkflowId, lane.RunId)
		if gone != nil {
			return gone
		}
		for _, a := range d.GetPendingActivities() {
			switch {
			case a.GetActivityId() != at.id:
			case a.GetAttempt() > at.attempt && a.GetLastWorkerIdentity() != at.worker:
				err = nil
				return nil
			default:
				return fmt.Errorf("attempt %d is %s by %s", a.GetAttempt(), a.GetState(), a.GetLastWorkerIdentity())
			}
		}
		if _, to := k.span(at); to.IsZero() && d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return errors.New("it is nowhere")
		}
		return nil
	})
	return nil, err
}

// starve has the kernel kill the worker when it asks for more memory, and starts another one that may have it.
func starve(k *torture, at step) (heal func(), err error) {
	before, err := k.memory.Killed()
	require.NoError(k.t, err)
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		_ = k.worker.Wait()
	}()
	for end, alive := time.Now().Add(10*time.Second), true; alive && time.Now().Before(end); {
		require.NoError(k.t, k.memory.Starve())
		select {
		case <-dead:
			alive = false
		case <-at.command:
			alive = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	select {
	case <-dead:
		after, failed := k.memory.Killed()
		require.NoError(k.t, failed)
		if err = k.underWay(at, time.Now()); after == before {
			err = errors.New("it ended in another way")
		}
	default:
		err = errors.New("it had all the memory that it needed")
	}
	require.NoError(k.t, k.memory.Feed())
	_ = k.worker.Process.Kill()
	<-dead
	k.startWorker()
	return nil, err
}

// killConnections kills every session of Remora's user.
func killConnections(k *torture, _ step) (heal func(), err error) {
	rows, err := k.db().QueryContext(k.t.Context(), "SELECT id FROM information_schema.processlist WHERE user = 'remora'")
	require.NoError(k.t, err)
	defer func() { _ = rows.Close() }()
	var ids []int
	for rows.Next() {
		var id int
		require.NoError(k.t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(k.t, rows.Err())
	killed := 0
	for _, id := range ids {
		if _, err := k.db().ExecContext(k.t.Context(), fmt.Sprintf("KILL %d", id)); err == nil {
			killed++
		}
	}
	if killed == 0 {
		return nil, errors.New("it had no connection")
	}
	return nil, nil
}

// everythingElse has a backup, a slot and a cleanup come meanwhile. The backup is refused while the lane is taken, and the
// slot waits for it.
func everythingElse(k *torture, _ step) (heal func(), err error) {
	before := k.triggered()
	var running sync.WaitGroup
	for _, one := range []struct {
		args  []string
		codes []int
	}{
		{[]string{"backup", k.source()}, []int{0, 3}},
		{[]string{"schedule", "trigger", k.source() + "/nightly"}, []int{0}},
		{[]string{"cleanup"}, []int{0}},
	} {
		running.Go(func() {
			if out, code := k.remora(one.args...); !slices.Contains(one.codes, code) {
				k.t.Errorf("remora %s: exit code %d\n%s", strings.Join(one.args, " "), code, out)
			}
		})
	}
	running.Wait()
	k.waitForSlot(before, remora.Completed, "that met a restore")
	return nil, nil
}

// A choice names a fault and the phase that it is to meet.
type choice struct {
	phase string
	nth   int // of those with that name
	fault string
}

// choose strikes with what is chosen of some faults. One that cannot be made to happen here is left out, and it is said.
func (k *torture) choose(faults []fault, choices ...choice) {
	k.t.Helper()
	k.t.Cleanup(func() { _, _ = fmt.Fprint(k.t.Output(), (&tally{}).add(k, "")) })
	for _, c := range choices {
		f := faults[slices.IndexFunc(faults, func(f fault) bool { return f.name == c.fault })]
		if f.cannot != nil {
			if err := f.cannot(k); err != nil {
				k.t.Logf("left out: %s %s: %v", f.id, f.name, err)
				continue
			}
		}
		k.once(slices.DeleteFunc(phases(), func(p phase) bool { return p.id != c.phase })[c.nth], f)
	}
}

// chosen are few, and still each phase and each fault is among them.
func chosen() []choice {
	return []choice{
		{"R0 plan", 0, "connections killed in MySQL"},
		{"R1 safety", 0, "worker asked to stop"},
		{"R2+3 stage", 0, "worker frozen for longer than its heartbeat"},
		{"R2+3 stage", 0, "worker killed for want of memory"},
		{"R2+3 stage", 1, "cancelled by the command"},
		{"R3 compare", 0, "terminated in Temporal"},
		{"R4 switch", 1, "MySQL killed and started again"},
		{"R4 switch", 1, "its step terminated in Temporal"},
		{"R4 switch", 1, "all of it terminated in Temporal"},
		{"R5 checks", 0, "Temporal killed and started again"},
		{"R6 way back", 1, "worker killed"},
		{"R6 rollback", 0, "a second restore meanwhile"},
		{"R6 rollback", 0, "cancelled in Temporal"},
		{"R6 accept", 0, "a backup, a slot and a cleanup meanwhile"},
	}
}
