package remora

// VerifyRequest starts a Verify of one backup.
type VerifyRequest struct {
	Source string `json:"source"`
	Backup string `json:"backup"`
	// Full reads all bytes, and not only those that no other verified backup shares.
	Full        bool   `json:"full,omitempty"`
	RequestedBy string `json:"requested_by"`
}

// VerifyAllRequest starts a VerifyAll: of all bytes of those backups whose turn it is. The schedule sends an empty one.
type VerifyAllRequest struct {
	RequestedBy string `json:"requested_by,omitempty"`
}

// Verified is the result of a Verify or VerifyAll.
type Verified struct {
	// Backups counts those that were read and are well; Bytes is what was read of all, as stored.
	Backups int   `json:"backups"`
	Bytes   int64 `json:"bytes"`
	// Damaged names those that are not.
	Damaged []string `json:"damaged,omitempty"`
}

// DueInput asks for the backups whose turn it is to be verified.
type DueInput struct {
	// Suspect asks for those that may have lost what a corrupt backup of the same source has lost, all at once.
	Suspect bool `json:"suspect,omitempty"`
	// Skip names those that have been verified just now.
	Skip []string `json:"skip,omitempty"`
}

// RoomInput asks whether there is room for a backup of that many logical bytes.
type RoomInput struct {
	Source string         `json:"source"`
	Bytes  map[Kind]int64 `json:"bytes"`
}

// RoomPhase is the phase in which a backup ends that has no room.
const RoomPhase = "look for room"
