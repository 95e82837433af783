package remora

import (
	"errors"
	"fmt"
	"regexp"
)

var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,39}$`)

// CheckSourceName refuses names that would not survive as part of a workflow id, a backup id and a file name.
func CheckSourceName(name string) error {
	if !sourceName.MatchString(name) {
		return fmt.Errorf("%q is not a source name: use 1 to 40 of a-z, 0-9, - and _, beginning with a letter or digit", name)
	}
	return nil
}

var backupName = regexp.MustCompile(`^[\pL\pN][\pL\pN ._:+@#-]{0,79}$`)

// CheckBackupName refuses names that would mislead a reader of a list or a path.
func CheckBackupName(name string) error {
	if !backupName.MatchString(name) || name == "latest" {
		return errors.New("a backup's name has 1 to 80 letters, digits, spaces and . _ : + @ # -, begins with a letter or digit, and is not \"latest\"")
	}
	return nil
}
