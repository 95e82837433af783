package schedule

import (
	"maps"
	"slices"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Wanted is a schedule as it should be.
type Wanted struct {
	ID     string
	Timing remora.Timing
	// CatchUp is how late a run may still begin after an outage of Temporal.
	CatchUp time.Duration
	// Paused says who stopped it; nil when nobody did.
	Paused *remora.Pause
	// Workflow is started as WorkflowID, to which Temporal appends the time, with Args.
	Workflow, WorkflowID string
	Args                 any
	// Source is empty for what is not about one; Kind and Summary say what it does.
	Source, Kind, Summary string
}

// ofSources are the schedules of sources by their ids: those of the configuration, and those that commands made.
func ofSources(configured []remora.Schedule, records []remora.ScheduleRecord) map[string]remora.Schedule {
	all := map[string]remora.Schedule{}
	for _, r := range records {
		if r.Schedule != nil && !r.Deleted {
			all[r.ID] = *r.Schedule
		}
	}
	for _, s := range configured {
		all[s.ID()] = s
	}
	return all
}

// Of are all schedules of one source.
func Of(source string, configured []remora.Schedule, records []remora.ScheduleRecord) (all []remora.Schedule) {
	for _, s := range ofSources(configured, records) {
		if s.Source == source {
			all = append(all, s)
		}
	}
	return all
}

// Plan is all that an installation should have: the schedules of its sources, those that commands made, the daily
// copies, and its own upkeep. The configuration wins where a command made a schedule of the same name.
func Plan(sources []remora.Schedule, copies map[string]remora.Timing, records []remora.ScheduleRecord) []Wanted {
	slots := ofSources(sources, records)
	paused := map[string]*remora.Pause{}
	for _, r := range records {
		if !r.Deleted {
			paused[r.ID] = r.Paused
		}
	}
	var all []Wanted
	for _, id := range slices.Sorted(maps.Keys(slots)) {
		s := slots[id]
		all = append(all, Wanted{
			ID: id, Timing: s.Timing, CatchUp: s.CatchUp, Workflow: remora.SlotWorkflow, WorkflowID: "slot/" + s.Source + "/" + s.Name,
			Args: remora.SlotRequest{Schedule: s}, Source: s.Source, Kind: "slot", Summary: s.Sentence(),
		})
	}
	for _, name := range slices.Sorted(maps.Keys(copies)) {
		lane := remora.CopyLane(name, "")
		all = append(all, Wanted{
			ID: lane, Timing: copies[name], CatchUp: 12 * time.Hour, // by then the next one is near
			Workflow: remora.CopyAllWorkflow, WorkflowID: lane, Args: remora.CopyAllRequest{To: name, RequestedBy: "schedule"},
			Kind: "copy", Summary: "copy all backups to " + name,
		})
	}
	all = append(
		all,
		upkeep(remora.RetentionSchedule, remora.Calendar("17 4 * * *", "UTC"), 6*time.Hour, remora.RetentionWorkflow, remora.RetentionRequest{RequestedBy: "schedule"}, "delete what need not be kept, and give its space back"),
		upkeep(remora.VerifySchedule, remora.Calendar("17 5 * * *", "UTC"), 6*time.Hour, remora.VerifyAllWorkflow, struct{}{}, "read backups back"),
		upkeep(remora.MonitorSchedule, remora.Every(5*time.Minute), time.Minute, remora.MonitorWorkflow, struct{}{}, "look whether all is well"),
	)
	for i := range all {
		all[i].Paused = paused[all[i].ID]
	}
	return all
}

func upkeep(id string, t remora.Timing, catchUp time.Duration, workflow string, args any, summary string) Wanted {
	return Wanted{ID: id, Timing: t, CatchUp: catchUp, Workflow: workflow, WorkflowID: id, Args: args, Kind: id, Summary: summary}
}

// Unrecorded are records for the schedules of sources whose slots count from now on, because nothing says since when.
func Unrecorded(wanted []Wanted, records []remora.ScheduleRecord, now time.Time) (fresh []remora.ScheduleRecord) {
	for _, w := range wanted {
		known := slices.ContainsFunc(records, func(r remora.ScheduleRecord) bool { return r.ID == w.ID && !r.Deleted })
		if w.Source != "" && !known {
			fresh = append(fresh, remora.ScheduleRecord{ID: w.ID, Since: now})
		}
	}
	return fresh
}
