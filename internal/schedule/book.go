package schedule

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/remora-backup/remora/internal/remora"
)

// Book is what Temporal knows of schedules. It is safe for concurrent use, also by several processes.
type Book struct {
	client    client.Client
	namespace string
}

// New makes a Book of a namespace, which stays open as long as the client does.
func New(c client.Client, namespace string) *Book { return &Book{client: c, namespace: namespace} }

// State is a schedule as Temporal has it.
type State struct {
	ID string `json:"id"`
	// Schedule is what its slots are told; nil for what is not of a source.
	Schedule *remora.Schedule `json:"schedule,omitempty"`
	// Timing is what Temporal acts upon.
	Timing remora.Timing `json:"timing"`
	Paused bool          `json:"paused,omitempty"`
	// Note is what was last written about it: who paused it, and why.
	Note string `json:"note,omitempty"`
	// Recent are its last runs, oldest first.
	Recent []Begun `json:"recent,omitempty"`
	// Running are those that have not ended.
	Running int `json:"running,omitempty"`
	// Next are the next ten times, also while it is paused.
	Next []time.Time `json:"next,omitempty"`
	// Missed counts what was not begun because Temporal was away for longer than the catch-up window, Skipped what was
	// not because the run before still went on.
	Missed  int `json:"missed,omitempty"`
	Skipped int `json:"skipped,omitempty"`
	// Created is when Temporal got to know it, which is later than its record where Temporal was lost.
	Created time.Time `json:"created"`
}

// Begun is one that a schedule started.
type Begun struct {
	Due        time.Time `json:"due"`
	Started    time.Time `json:"started"`
	WorkflowID string    `json:"workflow_id"`
	RunID      string    `json:"run_id"`
}

// Drift is something in Temporal that is not as wanted.
type Drift struct {
	ID string `json:"id"`
	// What is "missing", "extra", or what differs: "time", "catch-up", "overlap", "action", "pause".
	What string `json:"what"`
	Is   string `json:"is,omitempty"`
	Want string `json:"want,omitempty"`
}

// What a Drift says of a whole schedule.
const (
	Missing = "missing"
	Extra   = "extra"
)

// String says it in a line.
func (d Drift) String() string {
	switch d.What {
	case Missing:
		return d.ID + ": it is missing: " + d.Want
	case Extra:
		return d.ID + ": it is not configured: " + d.Is
	default:
		return d.ID + ": " + d.What + ": " + d.Is + ", should be " + d.Want
	}
}

// ours tells whether Remora makes schedules with such an id.
func ours(id string) bool {
	return strings.HasPrefix(id, remora.SchedulePrefix) || strings.HasPrefix(id, remora.CopyLane("", "")) ||
		slices.Contains([]string{remora.RetentionSchedule, remora.VerifySchedule, remora.MonitorSchedule}, id)
}

// List gives all that are Remora's, by their ids. What was made a moment ago may not be listed yet.
func (b *Book) List(ctx context.Context) (all []State, err error) {
	list, err := b.client.ScheduleClient().List(ctx, client.ScheduleListOptions{})
	if err != nil {
		return nil, err
	}
	for list.HasNext() {
		entry, err := list.Next()
		if err != nil {
			return nil, err
		}
		if s, err := b.Find(ctx, entry.ID); err != nil {
			return nil, err
		} else if s != nil && ours(s.ID) {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b State) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Find gives one; nil when there is none.
func (b *Book) Find(ctx context.Context, id string) (*State, error) {
	d, err := b.describe(ctx, id)
	if d == nil || err != nil {
		return nil, err
	}
	s := &State{
		ID: id, Timing: timingOf(d.Schedule.Spec), Paused: d.Schedule.State.Paused, Note: d.Schedule.State.Note,
		Next: d.Info.NextActionTimes, Running: len(d.Info.RunningWorkflows),
		Missed: d.Info.NumActionsMissedCatchupWindow, Skipped: d.Info.NumActionsSkippedOverlap, Created: d.Info.CreatedAt,
	}
	if req, ok := slotOf(d); ok {
		s.Schedule = &req.Schedule
	}
	for _, a := range d.Info.RecentActions {
		r := Begun{Due: a.ScheduleTime, Started: a.ActualTime}
		if w := a.StartWorkflowResult; w != nil {
			r.WorkflowID, r.RunID = w.WorkflowID, w.FirstExecutionRunID
		}
		s.Recent = append(s.Recent, r)
	}
	return s, nil
}

func (b *Book) handle(ctx context.Context, id string) client.ScheduleHandle {
	return b.client.ScheduleClient().GetHandle(ctx, id)
}

// describe gives nil for what is not there.
func (b *Book) describe(ctx context.Context, id string) (*client.ScheduleDescription, error) {
	d, err := b.handle(ctx, id).Describe(ctx)
	if errors.As(err, new(*serviceerror.NotFound)) {
		return nil, nil
	}
	return d, err
}

// slotOf is what a schedule of a source tells its slots.
func slotOf(d *client.ScheduleDescription) (req remora.SlotRequest, ok bool) {
	a, ok := d.Schedule.Action.(*client.ScheduleWorkflowAction)
	if !ok || a.Workflow != remora.SlotWorkflow || len(a.Args) != 1 {
		return req, false
	}
	p, ok := a.Args[0].(*commonpb.Payload)
	return req, ok && converter.GetDefaultDataConverter().FromPayload(p, &req) == nil
}

// Drift compares Temporal with what is wanted. What commands made is never extra: its record may be out of reach.
func (b *Book) Drift(ctx context.Context, wanted []Wanted) (all []Drift, err error) {
	ids := map[string]bool{}
	for _, w := range wanted {
		ids[w.ID] = true
		d, err := b.describe(ctx, w.ID)
		if err != nil {
			return nil, err
		}
		if d == nil {
			all = append(all, Drift{ID: w.ID, What: Missing, Want: w.Timing.Text})
			continue
		}
		differing, err := differences(w, d)
		if err != nil {
			return nil, err
		}
		all = append(all, differing...)
	}
	there, err := b.List(ctx)
	for _, s := range there {
		if !ids[s.ID] && (s.Schedule == nil || !s.Schedule.AdHoc) {
			all = append(all, Drift{ID: s.ID, What: Extra, Is: s.Timing.Text})
		}
	}
	return all, err
}

// differences are those between what is wanted and what is there. Somebody who paused it in Temporal is left alone.
func differences(w Wanted, d *client.ScheduleDescription) (all []Drift, err error) {
	differ := func(what, is, want string) {
		if is != want {
			all = append(all, Drift{ID: w.ID, What: what, Is: is, Want: want})
		}
	}
	want, err := plain(w.Timing)
	if err != nil {
		return nil, err
	}
	if is := timingOf(d.Schedule.Spec); is != want {
		differ("time", is.Text, want.Text)
	}
	differ("catch-up", remora.Short(d.Schedule.Policy.CatchupWindow), remora.Short(w.CatchUp))
	if is := d.Schedule.Policy.Overlap; is != enums.SCHEDULE_OVERLAP_POLICY_SKIP {
		differ("overlap", is.String(), "Skip")
	}
	if w.Paused != nil && !d.Schedule.State.Paused {
		differ("pause", "it runs", "paused "+w.Paused.String())
	}
	if is := d.Schedule.Action.(*client.ScheduleWorkflowAction); !sameAction(w, d, is) {
		said := is.StaticSummary
		if said == w.Summary {
			said = "other settings"
		}
		differ("action", said, w.Summary)
	}
	return all, nil
}

// sameAction compares what is started, with what.
func sameAction(w Wanted, d *client.ScheduleDescription, is *client.ScheduleWorkflowAction) bool {
	if is.Workflow != w.Workflow || is.ID != w.WorkflowID || is.TaskQueue != remora.Queue || len(is.Args) != 1 {
		return false
	}
	if want, ok := w.Args.(remora.SlotRequest); ok {
		req, ok := slotOf(d)
		req.Schedule.Timing, req.Schedule.CatchUp = want.Schedule.Timing, w.CatchUp // which are compared for themselves
		return ok && reflect.DeepEqual(req, want)
	}
	want, err := converter.GetDefaultDataConverter().ToPayload(w.Args)
	got, ok := is.Args[0].(*commonpb.Payload)
	return err == nil && ok && proto.Equal(want, got)
}

// Ensure makes what is missing, and tells what it made and what else is not as wanted. Any number may do so at once.
func (b *Book) Ensure(ctx context.Context, wanted []Wanted) (made []string, drift []Drift, err error) {
	found, err := b.Drift(ctx, wanted)
	for _, d := range found {
		if d.What != Missing {
			drift = append(drift, d)
			continue
		}
		fresh, err := b.create(ctx, named(wanted, d.ID))
		if err != nil {
			return made, drift, err
		}
		if fresh {
			made = append(made, d.ID)
		}
	}
	return made, drift, err
}

func named(wanted []Wanted, id string) Wanted {
	return wanted[slices.IndexFunc(wanted, func(w Wanted) bool { return w.ID == id })]
}

// Apply makes Temporal as wanted: it makes, changes and deletes. It tells what was not so.
func (b *Book) Apply(ctx context.Context, wanted []Wanted) ([]Drift, error) {
	found, err := b.Drift(ctx, wanted)
	if err != nil {
		return nil, err
	}
	done := map[string]bool{} // one update heals all that differs in a schedule
	for _, d := range found {
		switch {
		case done[d.ID]:
		case d.What == Missing:
			_, err = b.create(ctx, named(wanted, d.ID))
		case d.What == Extra:
			err = b.Delete(ctx, d.ID)
		default:
			err = b.update(ctx, named(wanted, d.ID))
		}
		if err != nil {
			return found, err
		}
		done[d.ID] = true
	}
	return found, nil
}

// Attributes are the search attributes of every run of Remora.
func Attributes(source, kind, actor string) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(
		temporal.NewSearchAttributeKeyKeyword(remora.SourceAttribute).ValueSet(source),
		temporal.NewSearchAttributeKeyKeyword(remora.KindAttribute).ValueSet(kind),
		temporal.NewSearchAttributeKeyKeyword(remora.ActorAttribute).ValueSet(actor),
	)
}

// Attribute is one of them; empty where a run has none of that name.
func Attribute(of *commonpb.SearchAttributes, name string) (value string) {
	_ = converter.GetDefaultDataConverter().FromPayload(of.GetIndexedFields()[name], &value) // as of one that is not there
	return value
}

func (w Wanted) action() client.ScheduleAction {
	return &client.ScheduleWorkflowAction{
		ID: w.WorkflowID, Workflow: w.Workflow, Args: []any{w.Args}, TaskQueue: remora.Queue,
		TypedSearchAttributes: Attributes(w.Source, w.Kind, "schedule"),
		StaticSummary:         w.Summary,
		StaticDetails:         "Started by the schedule `" + w.ID + "`, " + w.Timing.Text + ". See it with `remora schedule show " + Ref(w.ID) + "`.",
	}
}

// Ref is how people name a schedule: "shop/nightly", "retention".
func Ref(id string) string { return strings.TrimPrefix(id, remora.SchedulePrefix) }

// create tells whether it did; another one may have been quicker.
func (b *Book) create(ctx context.Context, w Wanted) (bool, error) {
	spec, err := specOf(w.Timing)
	if err != nil {
		return false, err
	}
	options := client.ScheduleOptions{
		ID: w.ID, Spec: *spec, Action: w.action(), Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: w.CatchUp,
		TypedSearchAttributes: Attributes(w.Source, w.Kind, "schedule"),
	}
	if w.Paused != nil {
		options.Paused, options.Note = true, w.Paused.String()
	}
	_, err = b.client.ScheduleClient().Create(ctx, options)
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return false, nil
	}
	return err == nil, err
}

// update changes everything but a pause that nobody recorded.
func (b *Book) update(ctx context.Context, w Wanted) error {
	spec, err := specOf(w.Timing)
	if err != nil {
		return err
	}
	return b.handle(ctx, w.ID).Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		s := in.Description.Schedule
		s.Spec, s.Action = spec, w.action()
		s.Policy = &client.SchedulePolicies{Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: w.CatchUp}
		if w.Paused != nil && !s.State.Paused {
			s.State.Paused, s.State.Note = true, w.Paused.String()
		}
		return &client.ScheduleUpdate{Schedule: &s}, nil
	}})
}

// mostTimes is how many times Temporal tells at once.
const mostTimes = 1000

// Times are the times of a schedule after from, up to to, whether or not it was paused then.
func (b *Book) Times(ctx context.Context, id string, from, to time.Time) (all []time.Time, err error) {
	for {
		page, err := b.client.WorkflowService().ListScheduleMatchingTimes(ctx, &workflowservice.ListScheduleMatchingTimesRequest{
			Namespace: b.namespace, ScheduleId: id, StartTime: timestamppb.New(from), EndTime: timestamppb.New(to),
		})
		if err != nil {
			return nil, err
		}
		for _, t := range page.GetStartTime() {
			if at := t.AsTime(); at.After(from) && !at.After(to) {
				all = append(all, at)
			}
		}
		if len(page.GetStartTime()) < mostTimes || len(all) == 0 {
			return all, nil
		}
		from = all[len(all)-1]
	}
}

// Pause stops a schedule for a time. What it has started goes on.
func (b *Book) Pause(ctx context.Context, id string, p remora.Pause) error {
	return b.handle(ctx, id).Pause(ctx, client.SchedulePauseOptions{Note: p.String()})
}

// Resume lets it go on. What was due meanwhile is not made up for.
func (b *Book) Resume(ctx context.Context, id, by string) error {
	return b.handle(ctx, id).Unpause(ctx, client.ScheduleUnpauseOptions{Note: "resumed by " + by})
}

// Trigger starts one run now, unless the last one still goes on.
func (b *Book) Trigger(ctx context.Context, id string) error {
	return b.handle(ctx, id).Trigger(ctx, client.ScheduleTriggerOptions{Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP})
}

// Delete removes it. What it has started goes on, and what is not there is none.
func (b *Book) Delete(ctx context.Context, id string) error {
	err := b.handle(ctx, id).Delete(ctx)
	if errors.As(err, new(*serviceerror.NotFound)) {
		return nil
	}
	return err
}
