package remora

import "time"

// Progress is how far a step is. It travels in the heartbeat of its activity and costs no history.
type Progress struct {
	// Phase is what is being done, in the words of the trade: "dump shop", "archive receipts", "verify".
	Phase string `json:"phase"`
	// Done and Total count Unit; Total is 0 where nobody knows it.
	Done  int64 `json:"done"`
	Total int64 `json:"total,omitempty"`
	// Unit is "bytes", "rows" or "files".
	Unit string `json:"unit,omitempty"`
	// Item is what is in hand: a table, a file.
	Item string `json:"item,omitempty"`
	// Quiet is true while somebody else is at work who tells nothing until it has ended, such as a server that builds
	// an index: standing still is no stall then.
	Quiet bool `json:"quiet,omitempty"`
	// Since is when the phase began, so that a watcher can compute a rate.
	Since time.Time `json:"since,omitzero"`
}
