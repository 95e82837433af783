package repository

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
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
		c := &change{name: name, cfg: l.all[name].cfg}
		if err := c.begin(ctx); err != nil {
			return false, atCopy(name, err)
		}
		changes = append(changes, c)
		ended = ended || c.changed
	}
	if ended {
		given = changes[0].waiting
	} else if err := changes[0].writeNext(file, given); err != nil {
		return false, problem(changeOp, remora.NextFile(file), err)
	}
	for _, c := range changes {
		if err := c.do(ctx, given); err != nil {
			return ended, atCopy(c.name, err)
		}
	}
	if err := os.Rename(remora.NextFile(file), file); err != nil {
		return ended, problem(changeOp, file, err)
	}
	return ended, problem(changeOp, file, syncDirectory(dir.Name()))
}

// change is that of one location's password.
type change struct {
	name    string
	cfg     Config
	at      place
	waiting remora.Secret // the one in the file beside the password's
	changed bool          // waiting is its password already
	held    *asOpened
	manager *format.Manager // of what is held
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
	st, err := c.at.open(ctx, false)
	if err != nil {
		return problem(changeOp, c.at.String(), err)
	}
	c.held = &asOpened{Storage: st, known: map[blob.ID][]byte{}}
	c.manager, err = c.held.manager(ctx, old)
	if c.cfg.Next != nil {
		c.waiting, _ = c.cfg.Next() // none, or one that was never used
	}
	c.changed = err != nil && c.waiting != "" && opensFormat(ctx, c.held.known[formatBlob], c.waiting)
	if errors.Is(err, repo.ErrInvalidPassword) && !c.changed {
		return c.cfg.refused(ctx, changeOp, c.at, old)
	}
	if c.changed {
		return nil
	}
	return problem(changeOp, c.at.String(), err)
}

// do changes the password, in an order in which the location opens whatever comes between, and opens it with the new one.
func (c *change) do(ctx context.Context, next remora.Secret) error {
	if !c.changed {
		if err := c.rewrite(ctx, next); err != nil {
			return problem(changeOp, c.at.String(), err)
		}
	}
	with := c.cfg
	with.Password, with.Next = func() (remora.Secret, error) { return next, nil }, nil
	r, err := Open(ctx, with)
	if err != nil {
		return err
	}
	return r.Close(ctx)
}

func (c *change) rewrite(ctx context.Context, next remora.Secret) error {
	if err := c.manager.ChangePassword(ctx, next.Reveal()); err != nil { // of what is held
		return err
	}
	var opts blob.PutOptions
	opts.RetentionMode, opts.RetentionPeriod = c.cfg.lock()
	c.held.known[nextSettingsBlob] = c.held.known[settingsBlob]
	for _, id := range []blob.ID{nextSettingsBlob, formatBlob, settingsBlob} {
		if err := cmp.Or(c.held.Storage.PutBlob(ctx, id, text(c.held.known[id]), opts), c.at.settle()); err != nil {
			return err
		}
		if c.cfg.reached != nil {
			c.cfg.reached(string(id))
		}
	}
	return nil
}

// writeNext puts the new password beside the old one, for those who may read that. What cannot be replaced in the end is
// refused: in a container, what is written beside a mounted secret goes with it. So is what whoever opens would read as another.
func (c *change) writeNext(file string, next remora.Secret) error {
	var at unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, file, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &at); err != nil {
		return err
	}
	if at.Mode&unix.S_IFMT != unix.S_IFREG || at.Nlink != 1 || at.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return remora.Fail(remora.Invalid, changeOp, file, "name as password_file the file itself, in a directory that stays; or change the password where the file comes from",
			"it is a link, or mounted, or has several names, and cannot be replaced")
	}
	name := remora.NextFile(file)
	err := cmp.Or(keepFile(name, []byte(next.Reveal()+"\n")), os.Chown(name, int(at.Uid), int(at.Gid)), os.Chmod(name, os.FileMode(at.Mode&0o777)))
	if err != nil {
		return err
	}
	if read, err := c.cfg.Next(); err != nil || read != next {
		return errors.Join(remora.Fail(remora.Invalid, changeOp, file, "choose one of letters, digits and signs, in one line", "the new password cannot be kept in a file"), os.Remove(name))
	}
	return syncDirectory(filepath.Dir(file))
}

// opensFormat tells whether the password opens a format file.
func opensFormat(ctx context.Context, text []byte, password remora.Secret) bool {
	alone := asOpened{known: map[blob.ID][]byte{formatBlob: text, settingsBlob: nil}}
	_, err := alone.manager(ctx, password)
	return err == nil
}

// asOpened is a storage whose format file stays what it was when it was opened. kopia reads that again every quarter of an
// hour, with the key that it was opened with: whoever is at work while the password is changed would fail.
type asOpened struct {
	blob.Storage
	mu    sync.Mutex
	known map[blob.ID][]byte // nil where there is none
}

func (a *asOpened) manager(ctx context.Context, password remora.Secret) (*format.Manager, error) {
	return format.NewManager(ctx, a, "", time.Minute, password.Reveal(), time.Now)
}

// GetBlob reads a blob, or length bytes of it where that is not negative.
func (a *asOpened) GetBlob(ctx context.Context, id blob.ID, offset, length int64, to blob.OutputBuffer) error {
	if id != formatBlob && id != settingsBlob {
		return a.Storage.GetBlob(ctx, id, offset, length, to)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	content, known := a.known[id]
	if !known {
		var got buffer
		if err := a.Storage.GetBlob(ctx, id, 0, -1, &got); err != nil {
			return err
		}
		content = got.Bytes()
		a.known[id] = content
	}
	if content == nil {
		return blob.ErrBlobNotFound
	}
	to.Reset()
	_, err := to.Write(content)
	return err
}

// PutBlob writes a blob; what stays as it was opened, only for whoever opened it.
func (a *asOpened) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if id != formatBlob && id != settingsBlob {
		return a.Storage.PutBlob(ctx, id, data, opts)
	}
	var to bytes.Buffer
	_, err := data.WriteTo(&to)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[id] = to.Bytes()
	return err
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
