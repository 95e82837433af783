// Package repository is where backups live: encrypted, deduplicated, readable with stock tools. A backup is one kopia
// snapshot that holds backup.json, RESTORE.md and one folder per component; what was learned about it later (it was
// read back, a run failed, a restore used it) lies beside it as small labelled records. It is the only package that
// knows kopia; everybody else sees parts that are written through a PartWriter and read as an fs.FS.
//
// The order of writing is what makes it safe against crashes: blocks first, then the index that names them, then the
// records that name those. Until the last step a backup does not exist for anyone. Nothing here ever deletes blocks.
package repository
