package remora

import "time"

// Event is what a Notice tells.
type Event string

// The events that people are told.
const (
	BackupFailed    Event = "backup.failed"
	BackupCompleted Event = "backup.completed"
	SlotSkipped     Event = "slot.skipped"
	// RestoreEvent tells how a restore stands or ended: Notice.Outcome.
	RestoreEvent Event = "restore"
	// RestoreExtended tells of a later end of an undo window.
	RestoreExtended  Event = "restore.extended"
	NeedsPerson      Event = "needs_person"
	RetentionRefused Event = "retention.refused"
	BackupCorrupt    Event = "backup.corrupt"
	CopyFailed       Event = "copy.failed"
	// DrillFailed tells that a backup could not be brought back as it should, DrillError that nobody knows.
	DrillFailed Event = "drill.failed"
	DrillError  Event = "drill.error"
	// AlertRaised, AlertReminder and AlertCleared tell of what the monitor found, finds still, and finds no more.
	AlertRaised   Event = "alert.raised"
	AlertReminder Event = "alert.reminder"
	AlertCleared  Event = "alert.cleared"
	TestEvent     Event = "test"
)

// Notice is what people are told: names, counts and texts of problems, never secrets or row data.
type Notice struct {
	// ID names the notice: one with the same ID is told once.
	ID     string `json:"id"`
	Event  Event  `json:"event"`
	Source string `json:"source,omitempty"`
	// Subject is the backup, restore, schedule or copy that it is about.
	Subject string `json:"subject,omitempty"`
	// Backup is what a restore restored, what holds the data that it has put away, or what was not copied.
	Backup string    `json:"backup,omitempty"`
	At     time.Time `json:"at"`
	// Outcome is that of a restore.
	Outcome Outcome `json:"outcome,omitempty"`
	By      string  `json:"by,omitempty"`
	Phase   string  `json:"phase,omitempty"`
	Problem string  `json:"problem,omitempty"`
	Hint    string  `json:"hint,omitempty"`
	// Since is when a problem began; Started when a run did.
	Since   time.Time `json:"since,omitzero"`
	Started time.Time `json:"started,omitzero"`
	// Due is the slot that a schedule meant.
	Due      time.Time `json:"due,omitzero"`
	Bytes    int64     `json:"bytes,omitempty"`
	Added    int64     `json:"added,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
	// KeepUntil is the end of an undo window.
	KeepUntil time.Time `json:"keep_until,omitzero"`
	// To is the one address that a test goes to; empty means wherever notices go.
	To string `json:"to,omitempty"`
}

// WebhookChannel is the name of the webhook among those that a notice goes to; the others are mail addresses.
const WebhookChannel = "webhook"

// Notified is what came of a Notify.
type Notified struct {
	Delivered   []string      `json:"delivered"`
	Undelivered []Undelivered `json:"undelivered,omitempty"`
}

// Undelivered is a notice that could not be told.
type Undelivered struct {
	Notice Notice `json:"notice"`
	// To is the mail address, or WebhookChannel.
	To      string    `json:"to"`
	Problem string    `json:"problem"`
	Hint    string    `json:"hint,omitempty"`
	At      time.Time `json:"at"`
}

// Email is how mail is sent.
type Email struct {
	To   []string
	From string
	// Server is the mail server's host:port.
	Server string
	// User is empty where the server asks for none. It is never told over a connection without TLS.
	User     string
	Password SecretFunc
	// TLS is "starttls", the default, "tls" or "none".
	TLS string
}

// Webhook is a URL that takes notices as signed POSTs.
type Webhook struct {
	URL string
	// Secret signs; it is of the form whsec_BASE64.
	Secret SecretFunc
}
