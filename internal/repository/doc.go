// Package repository is where backups live: encrypted, deduplicated, readable with stock tools. A backup is one kopia
// snapshot that holds backup.json, RESTORE.md and one folder per component; what was learned about it later (it was
// read back, a run failed, a restore used it) lies beside it as small labelled records. It is the only package that
// knows kopia; everybody else sees parts that are written through a PartWriter and read as an fs.FS.
//
// The order of writing is what makes it safe against crashes: blocks first, then the index that names them, then the
// records that name those. Until the last step a backup does not exist for anyone. Blocks are deleted by Reclaim alone,
// once nothing has named them for as long as kopia's margins ask.
//
// A slot of a schedule has exactly one outcome, whoever crashes when: its backup, committed for it; else the first record
// of a run of it that failed or was skipped; else that it was missed. Everybody who comes to know how a slot ended
// records that, without asking what others have seen: the backup its own failure, the slot's workflow any bad end of its
// backup, and the monitor the slots that nobody has recorded and no workflow is at work on. RecordFailure leaves what is
// not more than what is known, Commit takes the place of all else, and List decides likewise between records that were
// written at the same moment. So a record may come twice or late, and a slot that ran after all is no longer missed.
package repository
