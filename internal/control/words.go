package control

import (
	"strings"

	"github.com/remora-backup/remora/internal/remora"
)

// stepName is what people read instead of an activity's wire name, where the activity has no words of its own.
func stepName(activity string) string {
	switch activity {
	case remora.CommitActivity:
		return "write the manifest"
	case remora.VerifyActivity:
		return "verify"
	case remora.EnterActivity:
		return "take the application offline"
	case remora.LeaveActivity:
		return "bring the application back"
	}
	kind, verb, ok := strings.Cut(activity, ".")
	if !ok {
		return activity
	}
	switch verb {
	case remora.PreflightVerb:
		return "check " + kind
	case remora.CaptureVerb:
		return "dump " + kind
	case remora.StageVerb:
		return "load " + kind
	case remora.CompareVerb:
		return "compare " + kind
	case remora.SwitchVerb:
		return "switch " + kind
	case remora.DiscardVerb:
		return "clear away " + kind
	}
	return activity
}

// bookkeeping tells apart the activities that nobody waits for.
func bookkeeping(activity string) bool {
	switch activity {
	case remora.DescribeActivity, remora.RecordFailureActivity, remora.RecordRestoreActivity:
		return true
	}
	return verb(activity) == remora.LeftoversVerb
}

// operationName says, with its article, what a workflow does with a source.
func operationName(workflow string) string {
	switch workflow {
	case remora.BackupWorkflow:
		return "a backup"
	case remora.RestoreWorkflow, remora.ApplyWorkflow:
		return "a restore"
	case remora.TurnWorkflow:
		return "a rollback"
	case remora.DiscardWorkflow:
		return "the end of an undo window"
	case remora.PlanWorkflow:
		return "a plan"
	}
	return workflow
}

// verb is the verb of a component's activity: "Capture" of "database.Capture".
func verb(activity string) string {
	_, v, _ := strings.Cut(activity, ".")
	return v
}

// doing is what a workflow was about, for a Problem that says nothing itself.
func doing(workflow string) string {
	switch workflow {
	case remora.BackupWorkflow:
		return "back up"
	case remora.RestoreWorkflow, remora.ApplyWorkflow:
		return "restore"
	case remora.TurnWorkflow:
		return "roll back"
	case remora.DiscardWorkflow:
		return "end the undo window"
	case remora.PlanWorkflow:
		return "plan the restore"
	}
	return "run " + workflow
}

// component is the kind whose verb an activity is; empty for the other activities.
func component(activity string) remora.Kind {
	switch kind, _, _ := strings.Cut(activity, "."); remora.Kind(kind) {
	case remora.Database, remora.Files:
		return remora.Kind(kind)
	}
	return ""
}
