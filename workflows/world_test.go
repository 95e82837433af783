package workflows

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/remora-backup/remora/internal/remora"
)

// world is a model of everything outside: what is live, what is staged, the journals, the repository, the maintenance
// mode. Its steps have the effects that the real ones promise, and it counts and breaks them on demand.
type world struct {
	t testing.TB

	mu    sync.Mutex
	kinds map[remora.Kind]*side
	// elsewhere is the place of a copy: nothing is there yet.
	elsewhere *side
	// offline names the runs that took the application offline.
	offline map[string]bool
	// shape is that of what is live.
	shape string
	// theirs: an operator has it offline. checks are configured, and give what they are told to, by the live content.
	theirs  bool
	later   int
	failing map[string][]string
	// commands are run after a switch: they have the application read what is live. cached is what it last read, and
	// unread tells that one of them failed, so that it may not be the same.
	commands int
	cached   string
	unread   bool
	backups  map[string]*stored
	failures map[string]remora.FailedRun
	restores map[string]remora.Restore
	proofs   []remora.Proof
	// copies hold ids of backups, by name; true once verified. afterBackup names those that each backup goes to.
	copies      map[string]map[string]bool
	afterBackup []string
	// holds is who holds the lane.
	holds remora.Holder
	// damaged backups cannot be copied; rotten ones do not verify.
	damaged, rotten map[string]bool
	// due are to be verified, and suspects once something is rotten.
	due, suspects []string
	// full is how often there is no room.
	full int

	// stale backups need not be kept, and refused says why more than those are not deleted.
	stale   []string
	refused []string
	// notices are what people are to be told. channels are by name; told is what each got, and undelivered what not.
	notices     []remora.Notice
	channels    []string
	told        []remora.NotifyInput
	deaf        func(to string) error
	undelivered []remora.Undelivered
	watched     watched

	// calls are the steps in order, each once however often it was tried.
	calls []string
	seen  map[string]int
	fault fault
	fired bool
	// refuse is the number of a step that fails for good, besides the fault.
	refuse int
	// chance, if set, breaks a step before or after its effect when it gives an error.
	chance func(ctx context.Context, name string) (before, after error)
	// gate, if set, is called in each step before its effect.
	gate func(ctx context.Context, name string, nth int)
	// broken is the step that the fault has broken, and broke how often.
	broken string
	broke  int
	// witness, if set, sees the world before and after the effect of each step.
	witness func(nth int)
	// answers are those of the steps so far, in order; the first remembered steps have no effect, and give those again.
	answers    [][]reflect.Value
	remembered int
}

// side is one component: contents are single words.
type side struct {
	live    string
	journal map[string]*entry
}

type entry struct {
	kind     remora.Kind
	stage    string
	away     string
	seq      int
	switched bool
	live     remora.Side
	keep     time.Time
	// held keeps back what the live side does by itself; cut tells that a worker died before that side was whole.
	held, cut bool
	// foreign tells that another installation began it.
	foreign bool
}

type stored struct {
	manifest remora.Manifest
	content  map[remora.Kind]string
	verified bool
}

// fault breaks the step with number nth (from 1).
type fault struct {
	nth   int
	when  string // "before" or "after" its effect
	how   string // "once", "exhausted", "final", "busy" or "cancel"
	times int    // how often "once" and "final" break it; 0 means once
	again func() // for "cancel": cancels the workflow
}

const (
	original = "original"
	saved    = "saved"
)

// newWorld has a completed backup "good" of both components, and other data live.
func newWorld(t testing.TB) *world {
	w := &world{
		t: t, kinds: map[remora.Kind]*side{}, elsewhere: &side{journal: map[string]*entry{}}, offline: map[string]bool{}, backups: map[string]*stored{},
		failures: map[string]remora.FailedRun{}, restores: map[string]remora.Restore{}, seen: map[string]int{},
		copies: map[string]map[string]bool{"offsite": {}}, damaged: map[string]bool{}, rotten: map[string]bool{},
		channels: []string{"ops@example.com"}, cached: original,
	}
	good := &stored{verified: true, content: map[remora.Kind]string{}, manifest: remora.Manifest{
		Format: 1, ID: "good", Run: "earlier", Source: "shop", Kind: remora.FullBackup, Purpose: remora.Regular,
	}}
	for _, kind := range both {
		w.kinds[kind] = &side{live: original, journal: map[string]*entry{}}
		good.content[kind] = saved
		good.manifest.Parts = append(good.manifest.Parts, remora.PartRef{Kind: kind, Root: "r-" + string(kind)})
	}
	w.backups["good"] = good
	return w
}

var both = []remora.Kind{remora.Database, remora.Files}

func broken(kind remora.ProblemKind) error {
	p := &remora.Problem{Op: "do it", Kind: kind, Err: errors.New("the test broke it")}
	return temporal.NewApplicationErrorWithOptions(p.Error(), string(kind),
		temporal.ApplicationErrorOptions{NonRetryable: !kind.Retryable(), Details: []any{p.Text()}})
}

// patience is more tries than any bounded policy has.
const patience = 20

// step counts one try of a step and runs its effect, or breaks.
func (w *world) step(ctx context.Context, name string, effect func() error) error {
	info := activity.GetInfo(ctx)
	key := info.WorkflowExecution.RunID + "/" + info.ActivityID
	w.mu.Lock()
	if w.seen[key] == 0 {
		w.calls = append(w.calls, name)
		w.seen[key] = len(w.calls)
	}
	nth, gate, f := w.seen[key], w.gate, w.fault
	w.mu.Unlock()
	if gate != nil {
		gate(ctx, name, nth)
	}
	if cause := context.Cause(ctx); cause != nil && !temporal.IsCanceledError(cause) {
		return broken(remora.Stopping) // paused, reset, or of a run that was terminated: real steps stop then
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chance != nil {
		before, after := w.chance(ctx, name)
		if before != nil {
			return before
		}
		return cmp.Or(effect(), after)
	}
	if nth == w.refuse {
		return broken(remora.Unsupported)
	}
	if !w.breaks(name, nth, int(info.Attempt)) {
		if w.witness != nil {
			w.witness(nth)
			defer w.witness(nth)
		}
		return effect()
	}
	if f.when == "after" {
		if err := effect(); err != nil {
			return err
		}
	}
	switch f.how {
	case "cancel": // a step that may be cancelled is, here; another one goes on
		f.again()
		if f.when == "after" {
			return nil
		}
		return broken(remora.Unavailable)
	case "final":
		return broken(remora.Denied)
	case "busy":
		return broken(remora.Busy)
	default:
		return broken(remora.Unavailable)
	}
}

// breaks tells whether the fault breaks this try. What is final breaks the same step again when it is begun anew.
func (w *world) breaks(name string, nth, attempt int) bool {
	times := max(w.fault.times, 1)
	if w.fault.how == "exhausted" {
		times = patience
	}
	switch {
	case w.fault.how == "final" && w.fired:
		if name != w.broken || w.broke >= times {
			return false
		}
	case nth != w.fault.nth || attempt > times:
		return false
	}
	w.fired, w.broken = true, name
	w.broke++
	return true
}

// standing is a copy of what is outside of all workflows, as it stands.
func (w *world) standing() *world {
	c := newWorld(w.t)
	c.theirs, c.later, c.failing = w.theirs, w.later, w.failing
	c.commands, c.cached, c.unread = w.commands, w.cached, w.unread
	c.elsewhere, c.offline, c.restores, c.failures = w.elsewhere.standing(), maps.Clone(w.offline), maps.Clone(w.restores), maps.Clone(w.failures)
	for kind, s := range w.kinds {
		c.kinds[kind] = s.standing()
	}
	for id, s := range w.backups {
		c.backups[id] = &stored{s.manifest, maps.Clone(s.content), s.verified}
	}
	return c
}

func (s *side) standing() *side {
	c := &side{live: s.live, journal: map[string]*entry{}}
	for run, e := range s.journal {
		at := *e
		c.journal[run] = &at
	}
	return c
}

// same tells whether two worlds stand the same.
func (w *world) same(as *world) bool {
	seen := func(w *world) []any {
		return []any{w.kinds, w.elsewhere, w.cached, w.offline, w.restores, w.failures, w.backups}
	}
	return reflect.DeepEqual(seen(w), seen(as))
}

// remembering is a step whose answer is kept, and given again without any effect to a run that was reset.
func (w *world) remembering(step any) any {
	do := reflect.ValueOf(step)
	return reflect.MakeFunc(do.Type(), func(in []reflect.Value) []reflect.Value {
		w.mu.Lock()
		if n := w.remembered; n > 0 {
			w.remembered--
			w.mu.Unlock()
			return w.answers[len(w.answers)-n]
		}
		w.mu.Unlock()
		out := do.Call(in)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.witness != nil {
			w.answers = append(w.answers, out)
		}
		return out
	}).Interface()
}

// steps is a worker, or a test's environment.
type steps interface {
	RegisterActivityWithOptions(a any, options activity.RegisterOptions)
}

// register gives the world's steps their names on the wire.
func (w *world) register(r steps) {
	remember := func(name string, step any) {
		r.RegisterActivityWithOptions(w.remembering(step), activity.RegisterOptions{Name: name})
	}
	for name, a := range map[string]any{
		remora.DescribeActivity: w.describe, remora.CommitActivity: w.commit, remora.VerifyActivity: w.verify,
		remora.RecordFailureActivity: w.recordFailure, remora.RecordRestoreActivity: w.recordRestore,
		remora.EnterActivity: w.enter, remora.LeaveActivity: w.leave, remora.LookActivity: w.look, remora.AfterActivity: w.reset,
		remora.ChecksActivity:      w.check,
		remora.RecordProofActivity: w.recordProof,
		remora.FindRestoreActivity: w.findRestore, remora.CheckRepositoryActivity: w.checkRepository,
		remora.AfterBackupActivity: w.after, remora.CopyActivity: w.copy, remora.MissingActivity: w.missing,
		remora.RecordCopiesActivity: w.recordCopies,
		remora.LookAroundActivity:   w.lookAround, remora.RecordMonitorActivity: w.recordMonitor,
		remora.HolderActivity: w.holder,
		remora.RoomActivity:   w.room, remora.DueForVerifyActivity: w.turn,
		remora.PlanRetentionActivity: w.planRetention, remora.DeleteBackupsActivity: w.deleteBackups, remora.ReclaimActivity: w.reclaim,
	} {
		remember(name, a)
	}
	for name, a := range map[string]any{
		remora.ChannelsActivity: w.whom, remora.NotifyActivity: w.tell, remora.UndeliveredActivity: w.recordUndelivered,
	} {
		r.RegisterActivityWithOptions(a, activity.RegisterOptions{Name: name})
	}
	for _, kind := range both {
		c := component{w, kind}
		for verb, a := range map[string]any{
			remora.PreflightVerb: c.preflight, remora.CaptureVerb: c.capture, remora.StageVerb: c.stage, remora.CompareVerb: c.compare,
			remora.PrepareVerb: c.prepare, remora.SwitchVerb: c.turn, remora.DiscardVerb: c.discard, remora.LeftoversVerb: c.leftovers, remora.PreviewVerb: c.preview,
		} {
			remember(kind.Activity(verb), a)
		}
	}
}

func (w *world) describe(ctx context.Context, in remora.DescribeInput) (b remora.Backup, err error) {
	err = w.step(ctx, remora.DescribeActivity, func() error {
		s, ok := w.backups[strings.Replace(in.Backup, "latest", "good", 1)]
		if !ok {
			return broken(remora.NotFound)
		}
		b = remora.Backup{Manifest: s.manifest, Status: remora.Pending}
		if s.verified {
			b.Status = remora.Completed
		}
		return nil
	})
	return b, err
}

func (w *world) commit(ctx context.Context, in remora.CommitInput) (remora.Manifest, error) {
	m := in.Manifest
	return m, w.step(ctx, remora.CommitActivity, func() error {
		s := &stored{manifest: m, content: map[remora.Kind]string{}}
		for _, p := range m.Parts {
			s.content[p.Kind] = p.Root
		}
		if _, ok := w.backups[m.ID]; ok {
			return nil // the first one stays, as in the repository
		}
		maps.DeleteFunc(w.failures, func(_ string, f remora.FailedRun) bool {
			return m.Slot.Schedule != "" && f.Source == m.Source && f.Slot == m.Slot
		})
		w.backups[m.ID] = s
		return nil
	})
}

func (w *world) verify(ctx context.Context, in remora.VerifyInput) (v remora.Verification, err error) {
	return v, w.step(ctx, remora.VerifyActivity, func() error {
		if in.In != "" {
			if _, there := w.copies[in.In][in.Backup]; !there {
				return broken(remora.NotFound)
			}
			w.copies[in.In][in.Backup] = true
			return nil
		}
		if w.rotten[in.Backup] {
			return broken(remora.Corrupt)
		}
		if w.backups[in.Backup] == nil {
			return broken(remora.NotFound)
		}
		w.backups[in.Backup].verified = true
		return nil
	})
}

func (w *world) room(ctx context.Context, _ remora.RoomInput) error {
	return w.step(ctx, remora.RoomActivity, func() error {
		if w.full--; w.full >= 0 {
			return broken(remora.Full)
		}
		return nil
	})
}

func (w *world) turn(ctx context.Context, in remora.DueInput) (due []remora.ListedBackup, err error) {
	err = w.step(ctx, remora.DueForVerifyActivity, func() error {
		ids := w.due
		if in.Suspect {
			ids = w.suspects
		}
		for _, id := range ids {
			if !slices.Contains(in.Skip, id) {
				due = append(due, remora.ListedBackup{ID: id, Source: "shop"})
			}
		}
		return nil
	})
	return due, err
}

func (w *world) after(ctx context.Context, _ struct{}) (names []string, err error) {
	return w.afterBackup, w.step(ctx, remora.AfterBackupActivity, func() error { return nil })
}

func (w *world) copy(ctx context.Context, in remora.CopyInput) (c remora.Copied, err error) {
	return remora.Copied{To: in.To, Backups: 1, Bytes: 10, Added: 1}, w.step(ctx, remora.CopyActivity, func() error {
		switch {
		case w.damaged[in.Backup]:
			return broken(remora.Corrupt)
		case w.backups[in.Backup] == nil || !w.backups[in.Backup].verified:
			return broken(remora.Invalid)
		}
		w.copies[in.To][in.Backup] = false // until it is verified
		return nil
	})
}

func (w *world) missing(ctx context.Context, in remora.MissingInput) (all []remora.ListedBackup, err error) {
	err = w.step(ctx, remora.MissingActivity, func() error {
		all = nil
		for _, id := range slices.Sorted(maps.Keys(w.backups)) {
			if !w.copies[in.To][id] && !slices.Contains(in.Skip, id) && len(all) < in.Limit {
				all = append(all, remora.ListedBackup{ID: id, Source: "shop"})
			}
		}
		return nil
	})
	return all, err
}

func (w *world) recordCopies(ctx context.Context, _ remora.RecordCopiesInput) error {
	return w.step(ctx, remora.RecordCopiesActivity, func() error { return nil })
}

func (w *world) planRetention(ctx context.Context, in remora.RetentionRequest) (p remora.Planned, err error) {
	err = w.step(ctx, remora.PlanRetentionActivity, func() error {
		if in.Force != "" && in.Force != "hash" {
			return broken(remora.Refused)
		}
		p = remora.Planned{Hash: "hash", Keep: 5, Delete: len(w.stale), Bytes: int64(10 * len(w.stale))}
		if in.Force == "" {
			p.Refused = w.refused
		}
		return nil
	})
	return p, err
}

func (w *world) deleteBackups(ctx context.Context, in remora.DeleteInput) (page remora.DeletedPage, err error) {
	err = w.step(ctx, remora.DeleteBackupsActivity, func() error {
		if in.Hash != "hash" {
			return broken(remora.Changed)
		}
		page.Deleted = 0
		for _, id := range w.stale[in.From:min(in.From+in.Limit, len(w.stale))] {
			if id != "held" {
				delete(w.backups, id)
				page.Deleted++
			}
		}
		return nil
	})
	return page, err
}

func (w *world) reclaim(ctx context.Context, in remora.ReclaimInput) (remora.RetentionResult, error) {
	return remora.RetentionResult{Freed: 3, Later: in.Bytes, Owed: in.Bytes}, w.step(ctx, remora.ReclaimActivity, func() error { return nil })
}

// Notices are no steps of a saga: nothing in it may hang on them, so they are not counted among its steps.

func (w *world) whom(context.Context, remora.Notice) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.channels, nil
}

func (w *world) tell(_ context.Context, in remora.NotifyInput) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf != nil {
		if err := w.deaf(in.To); err != nil {
			return err
		}
	}
	w.told = append(w.told, in)
	return nil
}

func (w *world) recordUndelivered(_ context.Context, in remora.Undelivered) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.undelivered = append(w.undelivered, in)
	return nil
}

func (w *world) recordFailure(ctx context.Context, in remora.FailedRun) error {
	return w.step(ctx, remora.RecordFailureActivity, func() error {
		if !in.Drill {
			w.keepFailure(in)
		} else if !slices.ContainsFunc(w.proofs, func(p remora.Proof) bool { return p.Slot == in.Slot && p.Outcome != remora.DrillMissed }) {
			w.keepProof(in.Proof())
		}
		return nil
	})
}

// keepFailure leaves one outcome for each slot, as the repository does.
func (w *world) keepFailure(in remora.FailedRun) {
	if w.better(in.Source, in.Slot, in.Status) {
		return
	}
	maps.DeleteFunc(w.failures, func(_ string, f remora.FailedRun) bool {
		return in.Slot.Schedule != "" && f.Source == in.Source && f.Slot == in.Slot
	})
	w.failures[in.ID] = in
}

// better tells whether a slot has an outcome that one more of that status does not replace, as in the repository.
func (w *world) better(source string, slot remora.Slot, than remora.Status) bool {
	if slot.Schedule == "" {
		return false
	}
	for _, s := range w.backups {
		if s.manifest.Source == source && s.manifest.Slot == slot {
			return true
		}
	}
	for _, f := range w.failures {
		if f.Source == source && f.Slot == slot && !than.Outranks(f.Status) {
			return true
		}
	}
	return false
}

func (w *world) holder(ctx context.Context, _ remora.HolderInput) (h remora.Holder, err error) {
	return w.holds, w.step(ctx, remora.HolderActivity, func() error { return nil })
}

func (w *world) recordRestore(ctx context.Context, in remora.Restore) error {
	return w.step(ctx, remora.RecordRestoreActivity, func() error {
		if in.Outcome == remora.OutcomeRunning && w.decided(in.Run) {
			return broken(remora.Superseded)
		}
		w.restores[in.ID] = in
		return nil
	})
}

func (w *world) recordProof(ctx context.Context, in remora.Proof) error {
	return w.step(ctx, remora.RecordProofActivity, func() error {
		w.keepProof(in)
		return nil
	})
}

// keepProof leaves one for each slot, as the repository does.
func (w *world) keepProof(in remora.Proof) {
	w.proofs = append(slices.DeleteFunc(w.proofs, func(p remora.Proof) bool {
		return p.ID == in.ID || in.Slot.Schedule != "" && p.Slot == in.Slot
	}), in)
}

func (w *world) checkRepository(ctx context.Context, _ nothing) ([]remora.Finding, error) {
	return []remora.Finding{remora.Found(remora.Fine, "repository", "here")}, w.step(ctx, remora.CheckRepositoryActivity, func() error { return nil })
}

func (w *world) findRestore(ctx context.Context, in remora.FindRestoreInput) (r remora.Restore, err error) {
	err = w.step(ctx, remora.FindRestoreActivity, func() error {
		for _, known := range w.restores {
			if known.Run == in.Run || in.Run == "" && known.Outcome.Unsettled() {
				r = known
			}
		}
		return nil
	})
	return r, err
}

// decided tells whether a restore has gone on from where it was begun.
func (w *world) decided(run string) bool {
	for _, r := range w.restores {
		if r.Run == run && r.Outcome != remora.OutcomeRunning {
			return true
		}
	}
	return false
}

func (w *world) enter(ctx context.Context, in remora.MaintenanceInput) error {
	return w.step(ctx, remora.EnterActivity, func() error {
		if w.theirs {
			w.t.Errorf("it enters what somebody else has entered; steps: %v", w.calls)
		}
		w.offline[in.Run] = true
		return nil
	})
}

func (w *world) look(ctx context.Context, _ remora.MaintenanceInput) (r remora.MaintenanceResult, err error) {
	return r, w.step(ctx, remora.LookActivity, func() error {
		r.Theirs, r.After = w.theirs, w.commands
		return nil
	})
}

func (w *world) reset(ctx context.Context, in remora.MaintenanceInput) error {
	err := w.step(ctx, remora.AfterActivity, func() error {
		if len(w.offline) == 0 && !w.theirs { // it may be repeated, but the first time it is not too late
			w.fresh()
		}
		if in.Nth == w.commands-1 {
			w.cached = w.kinds[remora.Database].live
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unread = w.unread || err != nil
	return err
}

// fresh fails the test if the application has read something else than what is live.
func (w *world) fresh() {
	w.t.Helper()
	if w.commands > 0 && !w.unread && w.cached != w.kinds[remora.Database].live {
		w.t.Errorf("S24: it is online with what it read of %q, and %q is live; steps: %v", w.cached, w.kinds[remora.Database].live, w.calls)
	}
}

// check answers by what is live, and by whether the application is online.
func (w *world) check(ctx context.Context, in remora.ChecksInput) (r remora.ChecksResult, err error) {
	err = w.step(ctx, remora.ChecksActivity, func() error {
		live := w.kinds[remora.Database].live
		if in.Run != "" {
			e := w.kinds[remora.Database].journal[in.Run]
			if e == nil {
				return broken(remora.Fenced)
			}
			if r.Failed = w.failing["drilled "+e.stage]; len(r.Failed) == 0 {
				r.Passed = 2
			}
			return nil
		}
		if in.Online && len(w.offline) > 0 && !w.theirs {
			w.t.Errorf("checked with online=%v, offline by %v", in.Online, w.offline)
		}
		if in.Online {
			live += " online"
		} else {
			r.Later = w.later
		}
		if r.Failed = w.failing[live]; len(r.Failed) == 0 {
			r.Passed = 1
		}
		return nil
	})
	return r, err
}

func (w *world) leave(ctx context.Context, in remora.MaintenanceInput) error {
	return w.step(ctx, remora.LeaveActivity, func() error {
		if in.Entered && w.theirs {
			w.t.Errorf("it takes away what somebody else set")
		}
		w.fresh()
		delete(w.offline, in.Run)
		return nil
	})
}

type component struct {
	w    *world
	kind remora.Kind
}

// at is where it is asked to be.
func (c component) at(in remora.ComponentInput) *side {
	if in.Selection.To != "" {
		return c.w.elsewhere
	}
	return c.w.kinds[c.kind]
}

func (c component) preflight(ctx context.Context, in remora.ComponentInput) (e remora.Estimate, err error) {
	err = c.w.step(ctx, c.kind.Activity(remora.PreflightVerb), func() error {
		e = remora.Estimate{Empty: c.at(in).live == "", Identity: "here", Fingerprint: c.w.shape}
		return nil
	})
	return e, err
}

func (c component) preview(ctx context.Context, in remora.ComponentInput) (p remora.Preview, err error) {
	err = c.w.step(ctx, c.kind.Activity(remora.PreviewVerb), func() error {
		p.Tables = []remora.TablePreview{{Name: in.Backup, Added: 1}}
		return nil
	})
	return p, err
}

func (c component) capture(ctx context.Context, in remora.ComponentInput) (p remora.PartRef, err error) {
	err = c.w.step(ctx, c.kind.Activity(remora.CaptureVerb), func() error {
		content := c.w.kinds[c.kind].live
		if in.Selection.To != "" {
			c.w.t.Errorf("nothing needs to be saved for a copy")
		}
		if in.Of.PutAway != "" {
			e := c.w.kinds[c.kind].journal[in.Of.PutAway]
			if e == nil {
				return broken(remora.Fenced)
			}
			content = e.away
		}
		if content == "" {
			return fmt.Errorf("there is nothing to capture")
		}
		p = remora.PartRef{Kind: c.kind, Root: content}
		return nil
	})
	return p, err
}

func (c component) stage(ctx context.Context, in remora.ComponentInput) (s remora.Summary, err error) {
	return s, c.w.step(ctx, c.kind.Activity(remora.StageVerb), func() error {
		if e := c.at(in).journal[in.Run]; e != nil && e.switched {
			return broken(remora.Fenced)
		}
		if c.w.decided(in.Run) {
			return broken(remora.Superseded)
		}
		c.at(in).journal[in.Run] = &entry{kind: c.kind, stage: c.w.backups[in.Backup].content[c.kind], live: remora.Replaced}
		return nil
	})
}

func (c component) compare(ctx context.Context, in remora.ComponentInput) (d remora.Diff, err error) {
	err = c.w.step(ctx, c.kind.Activity(remora.CompareVerb), func() error {
		e := c.at(in).journal[in.Run]
		if e == nil || e.switched {
			return broken(remora.Fenced)
		}
		if e.stage != c.w.backups[in.Backup].content[c.kind] {
			d.Differences = []string{"it differs"}
		}
		return nil
	})
	return d, err
}

func (c component) prepare(ctx context.Context, in remora.ComponentInput) error {
	return c.w.step(ctx, c.kind.Activity(remora.PrepareVerb), func() error {
		if c.at(in).journal[in.Turn.Run] == nil {
			return broken(remora.NotFound)
		}
		return nil
	})
}

func (c component) turn(ctx context.Context, in remora.ComponentInput) error {
	return c.w.step(ctx, c.kind.Activity(remora.SwitchVerb), func() error { return c.turned(in) })
}

func (c component) turned(in remora.ComponentInput) error {
	s, turn := c.at(in), in.Turn
	e := s.journal[turn.Run]
	switch {
	case e == nil:
		return broken(remora.NotFound)
	case turn.Seq < e.seq:
		return broken(remora.Superseded)
	case turn.Stay && turn.Live != e.live:
		return broken(remora.Fenced)
	}
	e.seq, e.keep, e.held, e.cut = turn.Seq, turn.KeepUntil, turn.Hold && c.kind == remora.Database, false
	if turn.Live == e.live {
		return nil
	}
	if len(c.w.offline) == 0 && !c.w.theirs && in.Selection.To == "" {
		c.w.t.Errorf("switched while the application was online; steps: %v", c.w.calls)
	}
	if !e.switched {
		e.switched, e.stage, e.away = true, "", e.stage
	}
	s.live, e.away, e.live = e.away, s.live, turn.Live
	return nil
}

// discard holds the world's strictest rule (S1).
func (c component) discard(ctx context.Context, in remora.ComponentInput) error {
	return c.w.step(ctx, c.kind.Activity(remora.DiscardVerb), func() error {
		e := c.at(in).journal[in.Run]
		switch {
		case e == nil:
			return nil
		case in.Turn.Seq != e.seq:
			return broken(remora.Superseded)
		case e.foreign:
			c.w.t.Errorf("S10: it discards what another installation began")
		}
		if e.switched && e.away != "" && in.Selection.To == "" {
			held := c.w.backups[in.HeldBy]
			if held == nil || !held.verified || held.content[c.kind] != e.away {
				c.w.t.Errorf("S1: %s side %q was discarded though %q does not hold it", c.kind, e.away, in.HeldBy)
			}
		}
		delete(c.at(in).journal, in.Run)
		return nil
	})
}

// leftovers are those of a server, or of a place of files, whose journal nobody finds who does not look there.
func (c component) leftovers(ctx context.Context, in remora.ComponentInput) (all []remora.Leftover, err error) {
	err = c.w.step(ctx, c.kind.Activity(remora.LeftoversVerb), func() error {
		places := map[string]*side{"": c.w.kinds[c.kind]}
		switch to := in.Selection; {
		case c.kind == remora.Database && (to.To == "" || to.Place() == remora.Database):
			places["shop_copy"] = c.w.elsewhere
		case c.kind == remora.Files && to.To != "":
			places = map[string]*side{to.To: c.w.elsewhere}
		}
		for to, s := range places {
			for run, e := range s.journal {
				if e.kind == c.kind {
					all = append(all, remora.Leftover{
						Kind: c.kind, Run: run, Source: "shop", Seq: e.seq, Live: e.live, Switched: e.switched, Since: time.Unix(0, 0), To: to,
						KeepUntil: e.keep, Nothing: e.switched && e.away == "", Foreign: e.foreign,
					})
				}
			}
		}
		return nil
	})
	return all, err
}

// lives fails the test unless this is live in every component.
func (w *world) lives(content string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range both {
		if got := w.kinds[kind].live; got != content {
			w.t.Errorf("live %s is %q, want %q; steps: %v", kind, got, content, w.calls)
		}
	}
}

// tidy fails the test if anything of a run remains beside the data, or the application is offline.
func (w *world) tidy() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.offline) > 0 {
		w.t.Errorf("the application is offline; steps: %v", w.calls)
	}
	for kind, s := range map[remora.Kind]*side{remora.Database: w.kinds[remora.Database], remora.Files: w.kinds[remora.Files], "copy": w.elsewhere} {
		for _, e := range s.journal {
			w.t.Errorf("left beside %s: %+v; steps: %v", kind, *e, w.calls)
		}
	}
}

// of finds the backups of a purpose.
func (w *world) of(p remora.Purpose) []*stored {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []*stored
	for id, s := range w.backups {
		if id != "good" && s.manifest.Purpose == p {
			found = append(found, s)
		}
	}
	return found
}

func (w *world) count(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls) - len(slices.DeleteFunc(slices.Clone(w.calls), func(c string) bool { return c == name }))
}

// beat tells the server that a step lives, and learns of a cancel.
func beat(ctx context.Context) { activity.RecordHeartbeat(ctx) }
