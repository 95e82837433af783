package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"github.com/remora-backup/remora/internal/remora"
)

// problem turns what kopia, the disk and the bucket report into what a person can act on. It keeps problems and the end of a
// context as they are.
func problem(op, subject string, err error) error {
	if err == nil || errors.As(err, new(*remora.Problem)) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", op, err)
	}
	p := &remora.Problem{Op: op, Kind: kindOf(err), Subject: subject, Err: err}
	p.Hint = hints[p.Kind]
	if said, ok := errors.AsType[*refusal](err); ok {
		p.Hint, p.Err = said.hint, said
		if subject == said.where {
			p.Err = said.err
		}
	} else if path, ok := errors.AsType[*fs.PathError](err); ok && p.Kind != remora.Corrupt {
		p.Err = path // which still says which file: kopia's own chain repeats itself
	}
	return p
}

var hints = map[remora.ProblemKind]string{
	remora.Full:        "free space on the repository's disk, then try again; nothing that was complete is lost",
	remora.Denied:      "give the user that runs this the right to read and write the repository's directory",
	remora.Corrupt:     "check the disk of the repository and find which backups are intact with: remora verify BACKUP",
	remora.Unavailable: "see that the repository's disk answers, then try again",
}

func kindOf(err error) remora.ProblemKind {
	switch said, ok := errors.AsType[*refusal](err); {
	case ok:
		return said.kind
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return remora.Full
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, repo.ErrInvalidPassword):
		return remora.Denied
	case damaged(err):
		return remora.Corrupt
	case errors.As(err, new(syscall.Errno)), strings.Contains(err.Error(), "clock skew detected"):
		return remora.Unavailable
	default:
		return remora.Internal
	}
}

// damaged tells whether err says that something stored is missing or not what was written. Some of kopia's errors, and
// the one of AES-GCM, can only be told by their text.
func damaged(err error) bool {
	known := []error{blob.ErrBlobNotFound, blob.ErrInvalidRange, content.ErrContentNotFound, object.ErrObjectNotFound}
	if slices.ContainsFunc(known, func(known error) bool { return errors.Is(err, known) }) {
		return true
	}
	texts := []string{
		"message authentication failed", "invalid checksum", "invalid length", "error decompressing", "decrypt",
		"unable to unmarshal", "unable to parse", "unable to unpack", "invalid format blob", "invalid header", "malformed",
	}
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(err.Error(), text) })
}

// quote makes what somebody typed, or stored, safe and short enough for a line.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}
