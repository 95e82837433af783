package monitor

import (
	"fmt"
	"strings"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Overdue tells which component most exceeds its objective, and by what its newest good backup is old. runs are the
// source's, newest first.
func Overdue(e remora.Expected, runs []remora.Backup, now time.Time) (late remora.Kind, age, objective time.Duration) {
	for _, kind := range e.Kinds {
		o := e.Objective(kind)
		newest := newestGood(runs, kind)
		if newest == nil || o == 0 {
			continue
		}
		if a := now.Sub(newest.Started); a > o && a-o > age-objective {
			late, age, objective = kind, a, o
		}
	}
	return late, age, objective
}

// newestGood is the newest good backup that was asked for and holds a component; any, where no kind is given.
func newestGood(runs []remora.Backup, kind remora.Kind) *remora.Backup {
	for i, b := range runs {
		_, holds := b.Part(kind)
		if b.Purpose == remora.Regular && b.Status == remora.Completed && (holds || kind == "") {
			return &runs[i]
		}
	}
	return nil
}

// missedFor is how long a missed slot is told of, also when a good backup came after it: nobody was there to tell before.
const missedFor = 24 * time.Hour

// Findings judges the runs and the drills of a source, newest first.
func Findings(e remora.Expected, runs []remora.Backup, proofs []remora.Proof, now time.Time) (found []remora.Alert) {
	add := func(key string, level remora.Level, hint, format string, args ...any) *remora.Alert {
		found = append(found, Found(key+"/"+e.Source, level, e.Source, hint, format, args...))
		return &found[len(found)-1]
	}
	takeOne := "take one now: remora backup " + e.Source
	switch kind, age, objective := Overdue(e, runs, now); {
	case newestGood(runs, "") == nil:
		add("overdue", remora.Failing, takeOne, "there is no good backup yet")
	case kind != "":
		of := ""
		if len(e.Kinds) > 1 {
			of = " of the " + string(kind)
		}
		add("overdue", remora.Failing, takeOne+"; see what happened with: remora history "+e.Source,
			"there has been no good backup%s for %s (objective %s)", of, remora.Span(age), remora.Span(objective))
	}
	var corrupt []string
	var passed []remora.Backup
	var last *remora.Backup
	good := false
	for i, b := range runs {
		if b.Status == remora.Corrupted {
			corrupt = append(corrupt, b.ID)
		}
		if b.Purpose != remora.Regular {
			continue
		}
		recent := b.Status == remora.Missed && now.Sub(b.Slot.Due) < missedFor
		if recent || !good && (b.Status == remora.Missed || b.Status == remora.Skipped) {
			passed = append(passed, b)
		}
		if good {
			continue
		}
		if last == nil && (b.Status == remora.Completed || b.Status == remora.Failed || b.Status == remora.Corrupted) {
			last = &runs[i]
		}
		good = b.Status == remora.Completed
	}
	if last != nil && last.Status == remora.Failed {
		a := add("failed", remora.Failing, last.Hint, "the last backup failed: %s", last.Problem)
		a.Since, a.Told = last.Ended, last.Ended // by itself
	}
	if len(passed) > 0 {
		at := passed[0].Slot
		add("missed", remora.Warning, takeOne, "%s passed without a backup; the last one, %s of %s: %s", slots(len(passed)),
			at.Schedule, at.Due.Local().Format("2006-01-02 15:04"), passed[0].Problem)
	}
	if len(corrupt) > 0 {
		few := corrupt[:min(len(corrupt), 3)]
		a := add("corrupt", remora.Failing, "look at the disk that the repository lies on, and "+takeOne,
			"%d of its backups cannot be read back: %s", len(corrupt), strings.Join(few, ", "))
		a.Told = now // by whoever read it
	}
	prove, proof, objective := "prove one now: remora drill "+e.Source, remora.LastProof(proofs), e.ProofObjective()
	switch {
	case objective == 0:
	case proof == nil:
		add("unproven", remora.Warning, prove, "no drill has proven yet that it can be brought back")
	case now.Sub(proof.Started) > objective:
		add("unproven", remora.Failing, prove, "no drill has proven for %s that it can be brought back (objective %s)", remora.Span(now.Sub(proof.Started)), remora.Span(objective))
	}
	if proof != nil && e.RecoveryTime > 0 && proof.Took > e.RecoveryTime {
		add("slow", remora.Warning, "give a restore more sessions, or the objective more time: see what took how long with: remora show "+proof.Backup,
			"to bring it back took %s in the last drill (objective %s)", remora.Timed(proof.Took), remora.Span(e.RecoveryTime))
	}
	if len(proofs) > 0 && proofs[0].Outcome != remora.Proven {
		level, how := remora.Warning, "could not be made"
		switch proofs[0].Outcome {
		case remora.DrillFailing:
			level, how = remora.Failing, "failed"
		case remora.DrillSkipped, remora.DrillMissed:
			how = "was " + string(proofs[0].Outcome)
		}
		a := add("drill", level, proofs[0].Hint, "the last drill %s: %s", how, proofs[0].Problem)
		if a.Since = proofs[0].Ended; proofs[0].Outcome != remora.DrillMissed {
			a.Told = proofs[0].Ended // by itself
		}
	}
	return found
}

func slots(n int) string {
	if n == 1 {
		return "a slot"
	}
	return fmt.Sprintf("%d slots", n)
}
