package remora

import "time"

// KeepPolicy says which backups of a source stay. Whatever one rule keeps, stays; 0 means that a rule keeps nothing.
type KeepPolicy struct {
	// Last is how many of the newest good backups stay.
	Last int `json:"last,omitempty"`
	// DatabaseDays and FilesDays are for how many days backups with that component stay.
	DatabaseDays int `json:"database_days,omitempty"`
	FilesDays    int `json:"files_days,omitempty"`
	// Daily, Weekly, Monthly and Yearly are for how many days, weeks, months and years, that have one, the newest good
	// backup stays.
	Daily   int `json:"daily,omitempty"`
	Weekly  int `json:"weekly,omitempty"`
	Monthly int `json:"monthly,omitempty"`
	Yearly  int `json:"yearly,omitempty"`
}

// Hold keeps a backup whatever retention says.
type Hold struct {
	Backup string    `json:"backup"`
	By     string    `json:"by"`
	Why    string    `json:"why,omitempty"`
	At     time.Time `json:"at"`
	// Until is when it ends by itself; zero means never.
	Until time.Time `json:"until,omitzero"`
}

// Lease says that somebody reads a backup, so that nobody deletes it (S29).
type Lease struct {
	Backup string `json:"backup"`
	// Reader is the run that reads.
	Reader string `json:"reader"`
	What   string `json:"what"`
	// Until is when the lease ends unless it is renewed.
	Until time.Time `json:"until"`
}

// RetentionRequest starts a Retention.
type RetentionRequest struct {
	// Copy names the copy of the repository; empty means the repository.
	Copy string `json:"copy,omitempty"`
	// Source narrows it to one source; empty means all.
	Source string `json:"source,omitempty"`
	// Force is the hash of the dangerous plan that a person has seen and insists on.
	Force       string `json:"force,omitempty"`
	RequestedBy string `json:"requested_by"`
}
