package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"
	"github.com/remora-backup/remora/internal/remora"
	"golang.org/x/sys/unix"
)

// The password encrypts two blobs: the format file, and beside it what kopia wants to know of object locks. They cannot be
// replaced at once, and must fit. So the second is first put down under a name of ours, from which whoever opens takes
// it where it does not fit: the format file alone decides which password is the repository's (S13, decision 0044).
const (
	settingsBlob     = format.KopiaBlobCfgBlobID
	nextSettingsBlob = "remora.blobcfg"
)

// mendSettings ends a change of the password that was interrupted after the format file.
func mendSettings(ctx context.Context, at place) error {
	text, err := at.read(ctx, nextSettingsBlob)
	if err != nil {
		return err
	}
	return at.write(ctx, settingsBlob, text)
}

// openNext opens with the password of a change that is under way, or with the one that this has just put into the place of
// the one that was tried. Where it is none of them, it is repo.ErrInvalidPassword.
func (cfg Config) openNext(ctx context.Context, at place, unique []byte, tried remora.Secret) (*Repository, error) {
	for _, read := range []remora.SecretFunc{cfg.Next, cfg.Password} {
		if read == nil {
			continue
		}
		password, err := read()
		if err != nil || password == tried {
			continue
		}
		if r, err := open(ctx, cfg, at, unique, password); !errors.Is(err, repo.ErrInvalidPassword) {
			return r, err
		}
	}
	return nil, repo.ErrInvalidPassword
}

const changeOp = "change the password"

// ChangePassword changes the password that lies in file, for all of the locations that take theirs from it. A change that was
// interrupted is ended: with its own password, whatever is given then. At any moment each of them opens with what is
// in the file, or in the one beside it (remora.NextFile).
func (l *Locations) ChangePassword(ctx context.Context, file string, names []string, given remora.Secret) (ended bool, err error) {
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return false, problem(changeOp, file, err)
	}
	defer func() { _ = dir.Close() }() // which unlocks it
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false, remora.Fail(remora.Busy, changeOp, file, "wait for the other one to end", "somebody else is changing it")
	}
	var changes []*change
	for _, name := range names {
		c := &change{cfg: l.all[name].cfg, blobs: loose{blobs: map[blob.ID][]byte{}}}
		if err := c.begin(ctx); err != nil {
			return false, atCopy(name, err)
		}
		changes = append(changes, c)
		ended = ended || c.changed
	}
	if ended {
		given = changes[0].waiting
	} else if err := writeNext(file, given); err != nil {
		return false, problem(changeOp, remora.NextFile(file), err)
	}
	for i, c := range changes {
		c.cfg.at("written")
		if err := c.do(ctx, given); err != nil {
			return ended, atCopy(names[i], err)
		}
	}
	if err := os.Rename(remora.NextFile(file), file); err != nil {
		return ended, problem(changeOp, file, err)
	}
	changes[0].cfg.at("renamed")
	return ended, problem(changeOp, file, syncDirectory(dir.Name()))
}

func (cfg Config) at(step string) {
	if cfg.reached != nil {
		cfg.reached(step)
	}
}

// change is that of one location's password.
type change struct {
	cfg     Config
	at      place
	waiting remora.Secret // the one in the file beside the password's
	changed bool          // waiting is its password already
	blobs   loose         // what the password encrypts
	manager *format.Manager
}

// begin sees that the location is there, and which password opens it.
func (c *change) begin(ctx context.Context) (err error) {
	var old remora.Secret
	if c.at, old, err = c.cfg.begin(changeOp); err != nil {
		return err
	}
	if _, err := c.cfg.identify(ctx, changeOp, c.at); err != nil {
		return err
	}
	for _, id := range []blob.ID{formatBlob, settingsBlob} {
		text, err := c.at.read(ctx, id)
		if err != nil {
			return problem(changeOp, c.at.String(), err)
		}
		c.blobs.blobs[id] = text
	}
	if c.cfg.Next != nil {
		c.waiting, _ = c.cfg.Next() // none, or one that was never used
	}
	if c.manager, err = c.blobs.manager(ctx, old); err == nil {
		return nil
	}
	if c.changed = c.waiting != "" && opensFormat(ctx, c.blobs.blobs[formatBlob], c.waiting); c.changed {
		return nil
	}
	return c.cfg.refused(ctx, changeOp, c.at, old)
}

// do changes the password, in an order in which the location opens whatever comes between, and opens it with the new one.
func (c *change) do(ctx context.Context, next remora.Secret) error {
	if !c.changed {
		if err := c.manager.ChangePassword(ctx, next.Reveal()); err != nil { // in memory
			return problem(changeOp, c.at.String(), err)
		}
		c.blobs.blobs[nextSettingsBlob] = c.blobs.blobs[settingsBlob]
		for _, id := range []blob.ID{nextSettingsBlob, formatBlob, settingsBlob} {
			if err := c.put(ctx, id, c.blobs.blobs[id]); err != nil {
				return problem(changeOp, c.at.String(), err)
			}
			c.cfg.at(string(id))
		}
	}
	with := c.cfg
	with.Password, with.Next = func() (remora.Secret, error) { return next, nil }, nil
	r, err := Open(ctx, with)
	if err != nil {
		return err
	}
	c.cfg.at("opened")
	return r.Close(ctx)
}

// put writes a blob, locked as all others are, to the disk.
func (c *change) put(ctx context.Context, id blob.ID, content []byte) error {
	st, err := c.at.open(ctx, false)
	if err != nil {
		return err
	}
	var opts blob.PutOptions
	opts.RetentionMode, opts.RetentionPeriod = c.cfg.lock()
	if err := st.PutBlob(ctx, id, text(content), opts); err != nil {
		return err
	}
	return c.at.settle()
}

// writeNext puts the new password beside the old one, for those who may read that.
func writeNext(file string, next remora.Secret) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !known || !info.Mode().IsRegular() {
		return remora.Fail(remora.Invalid, changeOp, file, "name the file itself as password_file", "it is a link, or no file, and cannot be replaced")
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".remora-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.WriteString(next.Reveal() + "\n")
	err = errors.Join(err, temp.Chown(int(owner.Uid), int(owner.Gid)), temp.Chmod(info.Mode().Perm()), temp.Sync())
	if err := become(temp, remora.NextFile(file), err); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(file))
}

// opensFormat tells whether the password opens a format file.
func opensFormat(ctx context.Context, text []byte, password remora.Secret) bool {
	_, err := loose{blobs: map[blob.ID][]byte{formatBlob: text}}.manager(ctx, password)
	return err == nil
}

// loose are blobs in memory: as much of a storage as kopia needs where it is about the password.
type loose struct {
	blob.Storage
	blobs map[blob.ID][]byte
}

func (l loose) manager(ctx context.Context, password remora.Secret) (*format.Manager, error) {
	return format.NewManager(ctx, l, "", time.Minute, password.Reveal(), time.Now)
}

// GetBlob reads a blob.
func (l loose) GetBlob(_ context.Context, id blob.ID, _, _ int64, to blob.OutputBuffer) error {
	content, known := l.blobs[id]
	if !known {
		return blob.ErrBlobNotFound
	}
	to.Reset()
	_, err := to.Write(content)
	return err
}

// PutBlob keeps a blob.
func (l loose) PutBlob(_ context.Context, id blob.ID, data blob.Bytes, _ blob.PutOptions) error {
	var to bytes.Buffer
	_, err := data.WriteTo(&to)
	l.blobs[id] = to.Bytes()
	return err
}

// asOpened is a storage whose format file stays what it was when it was opened. kopia reads that again every quarter of an
// hour, with the key that it was opened with: whoever is at work while the password is changed would fail.
type asOpened struct {
	blob.Storage
	mu    sync.Mutex
	known map[blob.ID][]byte
}

// GetBlob reads a blob, or length bytes of it where that is not negative.
func (a *asOpened) GetBlob(ctx context.Context, id blob.ID, offset, length int64, to blob.OutputBuffer) error {
	if id != formatBlob && id != settingsBlob {
		return a.Storage.GetBlob(ctx, id, offset, length, to)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.known[id]; !known {
		var got buffer
		if err := a.Storage.GetBlob(ctx, id, 0, -1, &got); err != nil {
			return err
		}
		a.known[id] = got.Bytes()
	}
	return loose{blobs: a.known}.GetBlob(ctx, id, offset, length, to)
}

// TryRecovery takes what somebody typed from the recovery copy of the password, and records that it opens the repository.
func (r *Repository) TryRecovery(ctx context.Context, typed remora.Secret, by string) error {
	const op = "try the recovery copy"
	text, err := r.at.read(ctx, formatBlob)
	if err != nil {
		return problem(op, r.Where(), err)
	}
	if !opensFormat(ctx, text, typed) {
		return remora.Fail(remora.Denied, op, r.Where(), "look for a mistake in typing, then renew the recovery copy from the file of the password", "this does not open the repository")
	}
	return recoveries.put(ctx, r, recoveries.kind, recovery{At: time.Now().UTC(), By: by, Of: digest(text)})
}

// recovery is the record that the recovery copy of the password was tried.
type recovery struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
	// Of is a digest of the format file, which each change of the password makes another one, and which tells no more of
	// it than that file itself.
	Of string `json:"of"`
}

// RecoveryTried is when the recovery copy of the password, as it is now, was tried; zero when it never was.
func (r *Repository) RecoveryTried(ctx context.Context) (time.Time, error) {
	found, err := recoveries.list(ctx, r)
	if err != nil {
		return time.Time{}, err
	}
	text, err := r.at.read(ctx, formatBlob)
	if last := found[recoveries.kind]; err == nil && last.Of == digest(text) {
		return last.At, nil
	}
	return time.Time{}, problem("read the repository", r.Where(), err)
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
