package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
)

// A story is what somebody does with a site while a fault strikes.
type story string

const (
	// restoring brings the backup back.
	restoring story = "restore"
	// failing does, and the live checks say no, so that it goes back by itself.
	failing story = "restore whose checks fail"
	// undoing and accepting happen in the undo window.
	undoing   story = "rollback"
	accepting story = "accept"
)

// A phase is a step of a story, while which a fault strikes: the nth activity of its name in the lane of the source.
type phase struct {
	id       string // as people name it: R0 to R6
	story    story
	activity string
	nth      int
}

func (p phase) String() string {
	name := fmt.Sprintf("%s %s: %s", p.id, p.story, p.activity)
	if p.nth > 1 {
		name += fmt.Sprintf(" (%d)", p.nth)
	}
	return name
}

// phases are all that a restore goes through and that takes long enough to be met.
func phases() []phase {
	db, files := remora.Database.Activity, remora.Files.Activity
	return []phase{
		{"R0 plan", restoring, db(remora.PreflightVerb), 1},
		{"R1 safety", restoring, db(remora.CaptureVerb), 1},
		{"R1 safety", restoring, files(remora.CaptureVerb), 1},
		{"R1 safety", restoring, remora.CommitActivity, 1},
		{"R1 safety", restoring, remora.VerifyActivity, 1},
		{"R2+3 stage", restoring, db(remora.StageVerb), 1},
		{"R2+3 stage", restoring, files(remora.StageVerb), 1},
		{"R3 compare", restoring, db(remora.CompareVerb), 1},
		{"R3 compare", restoring, files(remora.CompareVerb), 1},
		{"R4 switch", restoring, remora.EnterActivity, 1},
		{"R4 switch", restoring, db(remora.SwitchVerb), 1},
		{"R4 switch", restoring, files(remora.SwitchVerb), 1},
		{"R4 switch", restoring, db(remora.PrepareVerb), 1},
		{"R5 checks", restoring, remora.ChecksActivity, 1},
		{"R5 checks", restoring, db(remora.SwitchVerb), 2}, // the events start
		{"R5 checks", restoring, remora.LeaveActivity, 1},
		{"R6 way back", failing, files(remora.SwitchVerb), 2},
		{"R6 way back", failing, db(remora.SwitchVerb), 2},
		{"R6 way back", failing, remora.LeaveActivity, 1},
		{"R6 way back", failing, db(remora.CaptureVerb), 2}, // what was live for a moment is saved too
		{"R6 way back", failing, db(remora.DiscardVerb), 1},
		{"R6 rollback", undoing, db(remora.SwitchVerb), 1},
		{"R6 rollback", undoing, files(remora.SwitchVerb), 1},
		{"R6 accept", accepting, db(remora.CaptureVerb), 1},
		{"R6 accept", accepting, remora.VerifyActivity, 1},
		{"R6 accept", accepting, db(remora.DiscardVerb), 1},
		{"R6 accept", accepting, files(remora.DiscardVerb), 1},
	}
}

// step is an activity that is under way.
type step struct {
	phase   phase
	run, id string // of the workflow in the lane, and of the activity in it
	attempt int32
	worker  string
	// command gives the end of the command that is followed: wait for it to be closed, do not read it.
	command <-chan struct{}
}

// A fault is something that happens for real. Faults of another file are told to newTorture, which see.
type fault struct {
	id, name string
	// strike makes it happen to a step that is under way. The error says that it did not happen, which counts as a miss.
	// Where something stays broken, heal mends it; it is called once the step was tried again or is over (see felt).
	strike func(k *torture, at step) (heal func(), err error)
	// at leaves out where it makes no sense; nil means everywhere.
	at func(phase) bool
	// lost says that nobody may look after the restore any more: then the monitor is asked to look, and the command does
	// not know how it ends.
	lost bool
	// harmless says that whatever was begun must succeed.
	harmless bool
	// cannot says why it cannot be made to happen to a site, on this machine or of this kind; nil means that it can.
	cannot func(k *torture) error
}

// torture strikes a site with faults, phase by phase, while its application is at work.
type torture struct {
	*site
	app     *app
	random  *rand.Rand
	client  client.Client
	offline string // the flag of maintenance

	memory *testenv.Memory // of its workers; nil: why says why it cannot be limited
	why    error

	good reading // what the backup holds
	// strays are workers beside the site's own, until the end of a run.
	strays []*exec.Cmd
	lanes  map[string]bool // that have been seen
	// usual is about how long a phase takes: what was met makes it longer, and what was missed makes it shorter.
	usual map[phase]time.Duration
	// crashed says that MySQL was started again in this run: then it forgets numbers that it never gave.
	crashed bool
	// now is what is being tried; "" between two runs.
	now     string
	results []result
	missed  int
}

// result is what one run came to.
type result struct {
	phase       phase
	fault       fault
	side        string // that is live at its end: BEFORE or AFTER
	interrupted time.Duration
	took        time.Duration
}

const (
	before = "BEFORE"
	after  = "AFTER"
)

// newTorture makes a site with an application that is at work, a backup of it, and a damage that the backup undoes. The
// site has servers of its own, and Remora a user of its own in MySQL.
func newTorture(t *testing.T, at shape) *torture {
	t.Helper()
	at.mysql = cmp.Or(at.mysql, testenv.NewMySQL(t))
	at.temporal = cmp.Or(at.temporal, testenv.NewTemporal(t))
	k := &torture{random: seed(t), lanes: map[string]bool{}, usual: map[phase]time.Duration{}}
	k.memory, k.why = testenv.NewMemory(t)
	k.site = newSite(t, at)
	k.client = k.temporal.Client(t)
	k.offline = filepath.Join(k.dir, "offline")
	k.stopWorker()
	k.exec("CREATE USER remora", "GRANT ALL ON *.* TO remora WITH GRANT OPTION",
		"CREATE SCHEMA verdict", "CREATE TABLE verdict.verdict (well BOOL)", "INSERT INTO verdict.verdict VALUES (TRUE)")
	k.replaceConfig("      user: root", "      user: remora")
	const undo = "    # undo_window: 24h"
	k.replaceConfig(undo, "    maintenance: {file: "+k.offline+"}\n    checks: [{sql: \"SELECT well AND NOT SLEEP(0.2) FROM verdict.verdict\"}]\n"+undo)
	k.started = func(worker *exec.Cmd) {
		if k.memory != nil {
			require.NoError(k.t, k.memory.Add(worker.Process.Pid))
		}
	}
	k.startWorker()
	k.app = newApp(t, k.site, k.offline)
	k.waitForSchedules()
	k.app.still(func() {
		k.must("backup", k.source(), "--name", "good")
		k.app.backedUp()
	})
	k.good = k.read().without()
	k.damage()
	t.Cleanup(func() {
		for _, w := range k.strays {
			_ = w.Process.Kill()
			_ = w.Wait()
		}
	})
	return k
}

// run has a fault strike a phase, once in a random moment of it, and judges what comes of it. It tells whether the fault
// was felt: a phase may be faster.
func (k *torture) run(p phase, f fault) (hit bool) {
	k.t.Helper()
	what := fmt.Sprintf("%s %s at %s", f.id, f.name, p)
	k.now, k.crashed = what, false
	began := time.Now()
	k.app.tidyUp()
	damaged := k.read().without()
	k.app.mark()
	k.exec(fmt.Sprintf("UPDATE verdict.verdict SET well = %t", p.story != failing))
	if p.story == undoing || p.story == accepting {
		k.must("restore", "good", "--force")
		k.requireSide(after, damaged, what+", before it")
		k.app.requireTurned(what + ", before it")
	}
	if p.story == accepting && k.random.IntN(2) == 0 { // either side may be put away
		k.must("rollback", k.source())
		k.app.requireTurned(what + ", before it")
	}
	was := k.side(damaged, what)
	known := k.newest().ID
	k.seeLanes()
	k.app.mark()

	ended := k.command(p.story)
	at, missed := k.reach(p, ended)
	var heal func()
	struck := time.Time{}
	if missed == nil {
		k.usual[p] = max(k.usual[p], 4*time.Millisecond)
		pause(k.t.Context(), time.Duration(k.random.Int64N(int64(k.usual[p]))))
		struck = time.Now()
		if heal, missed = f.strike(k, at); heal != nil {
			k.felt(at)
			heal()
		}
	}
	select {
	case <-ended.over:
	case <-time.After(5 * time.Minute):
		require.Fail(k.t, "the command does not end", "%s\n%s", what, k.must("status"))
	}
	r := k.settled(f, known, what)
	interrupted := k.app.interruption()
	if missed == nil {
		missed = k.underWay(at, struck)
	}
	if k.usual[p] *= 2; missed != nil {
		k.usual[p] /= 8
	}
	for _, w := range k.strays {
		k.stop(w)
	}
	k.strays = nil

	// Whole, one or the other; and everybody says which.
	side := k.side(damaged, what)
	counts := ""
	if missed != nil {
		counts = "; it does not count: " + missed.Error()
	} else if _, failure := k.ending(at); failure != "" {
		counts = "; the step failed: " + failure
	}
	_, _ = fmt.Fprintf(k.t.Output(), "%s %s: %s, %s; exit code %d, interrupted for %s%s\n", time.Now().UTC().Format(time.TimeOnly),
		what, side, cmp.Or(r.Outcome, "no record"), ended.code, interrupted.Round(time.Millisecond), counts)
	if side == was {
		k.app.requireStayed(what)
	} else {
		k.app.requireTurned(what)
	}
	require.NoFileExists(k.t, k.offline, what)
	k.requireAgreement(p, f, ended, r, was, side, what)

	// Whatever it was, things go on without anybody's help.
	came := side
	k.app.mark()
	if r.Outcome == remora.OutcomeApplied && k.random.IntN(2) == 0 {
		k.must("rollback", k.source())
		side = before
		k.requireSide(side, damaged, what+", rolled back")
		k.app.requireTurned(what + ", rolled back")
	}
	if r.Outcome.Open() {
		k.must("accept", k.source())
	}
	k.requireNothingLeft()
	k.must("backup", k.source())
	if side == after {
		k.damage()
	}
	k.now = ""
	if missed != nil {
		k.missed++
		return false
	}
	k.results = append(k.results, result{p, f, came, interrupted, time.Since(began)})
	return true
}

// once strikes until the fault was felt.
func (k *torture) once(p phase, f fault) {
	k.t.Helper()
	for range 10 {
		if k.run(p, f) {
			return
		}
	}
	require.Fail(k.t, "the fault never struck", "%s %s at %s", f.id, f.name, p)
}

// ended is how a command ended, once over is closed.
type ended struct {
	over chan struct{}
	out  string
	code int
}

// command begins what a story is about.
func (k *torture) command(s story) *ended {
	args := map[story][]string{undoing: {"rollback", k.source()}, accepting: {"accept", k.source()}}[s]
	if args == nil {
		args = []string{"restore", "good", "--force"}
	}
	e := &ended{over: make(chan struct{})}
	go func() {
		defer close(e.over)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		e.out, e.code = k.remoraContext(ctx, args...)
	}()
	return e
}

// reach waits until a phase is under way.
func (k *torture) reach(p phase, e *ended) (step, error) {
	for {
		select {
		case <-e.over:
			return step{}, errors.New("the phase was never seen")
		default:
		}
		if s, there := k.pending(p); there {
			s.command = e.over
			return s, nil
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// pending looks for a phase among what a worker is at work on.
func (k *torture) pending(p phase) (s step, there bool) {
	ctx, cancel := context.WithTimeout(k.t.Context(), 5*time.Second)
	defer cancel()
	lane, err := k.client.DescribeWorkflowExecution(ctx, remora.Lane(k.source()), "")
	if err != nil {
		return s, false
	}
	run := lane.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	for _, a := range lane.GetPendingActivities() {
		if k.lanes[run] || a.GetActivityType().GetName() != p.activity || a.GetState() != enums.PENDING_ACTIVITY_STATE_STARTED {
			continue
		}
		if nth, _ := k.scheduled(run, p.activity); p.nth > 1 && nth != p.nth {
			continue
		}
		return step{phase: p, run: run, id: a.GetActivityId(), attempt: a.GetAttempt(), worker: a.GetLastWorkerIdentity()}, true
	}
	return s, false
}

// seeLanes remembers what has been in the lane, so that it is not taken for what comes.
func (k *torture) seeLanes() {
	lane, err := k.client.DescribeWorkflowExecution(k.t.Context(), remora.Lane(k.source()), "")
	if err == nil {
		k.lanes[lane.GetWorkflowExecutionInfo().GetExecution().GetRunId()] = true
	}
}

// scheduled counts the activities of a name that a run has begun, and gives its history.
func (k *torture) scheduled(run, activity string) (n int, history []*historypb.HistoryEvent) {
	events := k.client.GetWorkflowHistory(k.t.Context(), remora.Lane(k.source()), run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return 0, nil
		}
		history = append(history, e)
		if e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == activity {
			n++
		}
	}
	return n, history
}

// span is from when to when a step was under way; to is zero where it never ended.
func (k *torture) span(at step) (from, to time.Time) {
	_, history := k.scheduled(at.run, "")
	var scheduled int64
	for _, e := range history {
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && a.GetActivityId() == at.id {
			scheduled, from = e.GetEventId(), e.GetEventTime().AsTime()
		}
		for _, of := range []int64{
			e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId(), e.GetActivityTaskFailedEventAttributes().GetScheduledEventId(),
			e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId(), e.GetActivityTaskCanceledEventAttributes().GetScheduledEventId(),
		} {
			if of != 0 && of == scheduled {
				to = e.GetEventTime().AsTime()
			}
		}
	}
	return from, to
}

// underWay tells whether a step was, when it was struck.
func (k *torture) underWay(at step, struck time.Time) error {
	from, to := k.span(at)
	switch {
	case from.IsZero():
		return errors.New("its history is gone")
	case !to.IsZero() && to.Before(struck):
		return fmt.Errorf("it was over %s before", struck.Sub(to))
	}
	return nil
}

// felt waits until a step has noticed that something is broken.
func (k *torture) felt(at step) {
	k.t.Helper()
	testenv.Wait(k.t, 3*time.Minute, "somebody to notice at "+at.phase.String(), func() error { return k.noticed(at) })
}

// noticed is nil when a step is tried again, or over, or its command is.
func (k *torture) noticed(at step) error {
	select {
	case <-at.command:
		return nil
	default:
	}
	lane, err := k.client.DescribeWorkflowExecution(k.t.Context(), remora.Lane(k.source()), at.run)
	if err != nil {
		return err
	}
	for _, a := range lane.GetPendingActivities() {
		if a.GetActivityId() == at.id && a.GetAttempt() == at.attempt {
			return errors.New("it is still at work")
		}
	}
	return nil
}

// unharmed says that a step was done in the attempt that was struck, as if nothing had been.
func (k *torture) unharmed(at step) error {
	if attempt, _ := k.ending(at); attempt == at.attempt {
		return errors.New("it did without")
	}
	return nil
}

// ending tells in which attempt a step was done, 0 where it was not, and what it failed with before.
func (k *torture) ending(at step) (attempt int32, failure string) {
	var scheduled int64
	tries := map[int64]int32{}
	_, history := k.scheduled(at.run, "")
	for _, e := range history {
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && a.GetActivityId() == at.id {
			scheduled = e.GetEventId()
		}
		if a := e.GetActivityTaskStartedEventAttributes(); a != nil && a.GetScheduledEventId() == scheduled {
			tries[e.GetEventId()], failure = a.GetAttempt(), a.GetLastFailure().GetMessage()
		}
		if a := e.GetActivityTaskFailedEventAttributes(); a != nil && a.GetScheduledEventId() == scheduled {
			failure = a.GetFailure().GetMessage()
		}
		if a := e.GetActivityTaskCompletedEventAttributes(); a != nil && a.GetScheduledEventId() == scheduled {
			attempt = tries[a.GetStartedEventId()]
		}
	}
	return attempt, failure
}

// newest is the newest record of a restore.
func (k *torture) newest() (r remora.Restore) {
	k.t.Helper()
	if all := list[remora.Restore](k.site, "restores", k.source()); len(all) > 0 {
		r = all[0]
	}
	return r
}

// settled waits until nothing is at work any more, and gives the record of the restore; an empty one where none was made
// after the one that is known. Where a workflow was terminated, the monitor is asked to look.
func (k *torture) settled(f fault, known, what string) (r remora.Restore) {
	k.t.Helper()
	asked := false
	testenv.Wait(k.t, 3*time.Minute, "the end of "+what, func() error {
		if k.open(remora.Lane(k.source())) {
			return errors.New("the lane is taken")
		}
		looked := k.open(remora.RestoreLane(k.source()))
		r = k.newest()
		switch {
		case r.Outcome.Unsettled() && !looked && f.lost && !asked:
			if out, code := k.remora("schedule", "trigger", "monitor"); code != 0 {
				return errors.New(out)
			}
			asked = true
			return errors.New("the monitor was asked to look")
		case r.Outcome.Open() && looked, r.ID == "" && !looked, r.Outcome != "" && !r.Outcome.Unsettled() && !looked:
			return nil
		}
		return fmt.Errorf("it is %q, and somebody looks after it: %t", r.Outcome, looked)
	})
	if r.ID == known && !r.Outcome.Open() && r.Outcome != remora.OutcomeAccepted {
		return remora.Restore{}
	}
	return r
}

func (k *torture) open(id string) bool {
	k.t.Helper()
	d, err := k.client.DescribeWorkflowExecution(k.t.Context(), id, "")
	return err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING
}

// side reads the site independently of everything, and tells which side is live. Anything else is wrong.
func (k *torture) side(damaged reading, what string) string {
	k.t.Helper()
	now := k.read().without()
	switch {
	case now == damaged, k.crashed && now.uncounted() == damaged.uncounted():
		return before
	case now.uncounted() == k.good.uncounted():
		return after
	}
	k.wrong(damaged, now, what)
	return ""
}

// restartMySQL starts it again, as after a crash.
func (k *torture) restartMySQL() {
	k.t.Helper()
	k.crashed = true
	k.mysql.Restart(k.t)
}

func (k *torture) requireSide(want string, damaged reading, what string) {
	k.t.Helper()
	require.Equal(k.t, want, k.side(damaged, what), what)
}

// wrong says how what is live differs from both sides.
func (k *torture) wrong(damaged, now reading, what string) {
	k.t.Helper()
	for name, side := range map[string]reading{before: damaged.uncounted(), after: k.good.uncounted()} {
		k.t.Logf("%s: the database and %s: %s", what, name, firstDifference(side.database, now.uncounted().database))
		k.t.Logf("%s: the files and %s: %s", what, name, firstDifference(side.files, now.files))
	}
	require.Fail(k.t, "neither BEFORE nor AFTER", what)
}

// requireAgreement compares what is live with what the record and the command say.
func (k *torture) requireAgreement(p phase, f fault, e *ended, r remora.Restore, was, side, what string) {
	k.t.Helper()
	said := before
	switch r.Outcome {
	case remora.OutcomeApplied:
		said = after
	case remora.OutcomeAccepted:
		said = was
	case remora.OutcomeRolledBack, remora.OutcomeRefused:
		require.NotEmpty(k.t, r.Problem, "%s: the record says why", what)
	}
	require.Equal(k.t, said, side, "%s: the record says %q\n%s", what, r.Outcome, e.out)
	done := map[story]bool{
		restoring: r.Outcome == remora.OutcomeApplied, failing: false,
		undoing: side == before, accepting: r.Outcome == remora.OutcomeAccepted,
	}[p.story]
	if e.code == 0 || !f.lost { // who was left alone knows nothing
		require.Equal(k.t, done, e.code == 0, "%s: exit code %d, and the record says %q\n%s", what, e.code, r.Outcome, e.out)
	}
	if e.code == 5 {
		require.Equal(k.t, remora.OutcomeRolledBack, r.Outcome, "%s\n%s", what, e.out)
	}
	if f.harmless && p.story != failing {
		require.Zero(k.t, e.code, "%s\n%s", what, e.out)
	}
}

// tortured is the site that is tortured.
var tortured = shape{users: 2000, orders: 20_000, files: 60, undo: time.Hour}

// TestTorture strikes a restore and its undo window with the faults of processes, of servers and of people: with a fixed
// choice, in which each phase and each fault is met. TestTortureAtRandom draws them.
func TestTorture(t *testing.T) {
	t.Parallel()
	k := newTorture(t, tortured)
	k.choose(processFaults(), chosen()...)
}

// TestTortureOfMariaDB is TestTorture where MariaDB is another server than MySQL: a backup that holds BACKUP STAGE, a switch
// without locks (S32), and a data directory that is full (F17).
func TestTortureOfMariaDB(t *testing.T) {
	t.Parallel()
	k, _, full := newCramped(t, testenv.NewMariaDB(t, "11.8"), unlogged)
	k.choose(append(processFaults(), full...),
		choice{"R1 safety", 0, "connections killed in MySQL"},
		choice{"R2+3 stage", 0, "MySQL's disk has no room for a table"},
		choice{"R4 switch", 1, "MySQL killed and started again"},
		choice{"R6 way back", 1, "worker killed"},
	)
}
