// Package schedule keeps Temporal's Schedules as an installation wants them, and accounts for what became of their slots.
//
// The configuration and the records in the repository say what is wanted (Plan); Temporal's copy of it may be lost,
// edited by hand, or come back from an older state, and is compared with that (Drift), completed by any worker that
// starts (Ensure), and changed or removed only when a person says so (Apply).
package schedule
