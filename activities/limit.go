package activities

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/dustin/go-humanize"

	"github.com/remora-backup/remora/internal/remora"
)

// limited is a part that may not become larger than a backup may be. Regular backups alone are limited: a safety backup
// that is refused would leave a person in trouble without a restore.
type limited struct {
	PartWriter
	most int64
	size atomic.Int64
}

func limit(to PartWriter, most int64, of remora.Subject) PartWriter {
	if most == 0 || of != (remora.Subject{}) {
		return to
	}
	return &limited{PartWriter: to, most: most}
}

func (l *limited) Put(ctx context.Context, path string, write func(io.Writer) error) error {
	return l.PartWriter.Put(ctx, path, func(to io.Writer) error { return write(counter{l, to}) })
}

func (l *limited) PutTree(ctx context.Context, path, dir string, skip func(rel string) bool) (remora.TreeSummary, error) {
	sum, err := l.PartWriter.PutTree(ctx, path, dir, skip)
	if err == nil {
		err = tooLarge(l.size.Add(sum.Bytes), l.most)
	}
	return sum, err
}

type counter struct {
	l  *limited
	to io.Writer
}

func (c counter) Write(b []byte) (int, error) {
	if err := tooLarge(c.l.size.Add(int64(len(b))), c.l.most); err != nil {
		return 0, err
	}
	return c.to.Write(b)
}

// tooLarge is nil where size is within the limit, or there is none.
func tooLarge(size, most int64) error {
	if most == 0 || size <= most {
		return nil
	}
	return remora.Fail(remora.Unsupported, "back up", "",
		"Raise BACKUP_MAX_FILE_SIZE (megabytes), or leave something out.", "the backup has %s and more, and may have %s", humanize.IBytes(uint64(size)), humanize.IBytes(uint64(most)))
}

// nearly warns of a backup that is going to be refused.
func nearly(e *remora.Estimate, most int64) {
	if err := tooLarge(e.Summary.Bytes, most); err != nil {
		e.Summary.Warnings = append(e.Summary.Warnings, fmt.Sprintf("about %s are live, and a backup may have %s (BACKUP_MAX_FILE_SIZE): it will fail",
			humanize.IBytes(uint64(e.Summary.Bytes)), humanize.IBytes(uint64(most))))
	}
}
