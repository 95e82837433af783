// Package schedule accounts for the slots of schedules: which of them nobody has begun, and why.
package schedule
