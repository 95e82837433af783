package repository

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var lockedForADay = remora.ObjectLock{Mode: "governance", Days: 1}

const another = "staple battery horse correct"

func fromFile(file string, main, other Config) *Locations {
	for _, cfg := range []*Config{&main, &other} {
		cfg.Password, cfg.Next = readFile(file), readFile(remora.NextFile(file))
	}
	return NewLocations(main, map[string]Config{"copy": other})
}

func readFile(name string) remora.SecretFunc {
	return func() (remora.Secret, error) {
		text, err := os.ReadFile(name)
		return remora.Secret(strings.TrimSpace(string(text))), err
	}
}

// passwordVictim changes the password, and kills itself at a step.
func passwordVictim() error {
	path, err := os.Getwd()
	if err != nil {
		return err
	}
	at := func(dir string) Config {
		return Config{Path: filepath.Join(path, dir), State: filepath.Join(path, "state-"+dir)}
	}
	main, other := at("main"), at("copy")
	if server, name, ok := strings.Cut(os.Getenv("REMORA_TEST_BUCKET"), "/"); ok {
		main.Path, main.Bucket = "", (&testenv.S3Server{Address: server}).Bucket()
		main.Bucket.Name, main.Bucket.Prefix, main.Bucket.Lock = name, "shop/backups/", lockedForADay
	}
	left := os.Getenv("REMORA_TEST_STEP")
	reached := func(step string) {
		if left = strings.TrimPrefix(left, step+" "); left == "" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	main.reached, other.reached = reached, reached
	l := fromFile(filepath.Join(path, "password"), main, other)
	_, err = l.ChangePassword(context.Background(), filepath.Join(path, "password"), strings.Split(os.Getenv("REMORA_TEST_NAMES"), ","), another)
	return err
}

func TestS13APasswordChangeThatIsKilledLocksNobodyOut(t *testing.T) {
	steps := []string{nextSettingsBlob, string(formatBlob), string(settingsBlob)}
	for n := range steps {
		t.Run("after "+steps[n], func(t *testing.T) {
			t.Parallel()
			testAKilledPasswordChange(t, nil, steps[:n+1], n > 0, "")
		})
	}
	t.Run("between the repository and its copy", func(t *testing.T) {
		t.Parallel()
		testAKilledPasswordChange(t, nil, append(slices.Clone(steps), steps[0]), true, "", "copy")
	})
	t.Run("locked bucket", func(t *testing.T) {
		t.Parallel()
		testAKilledPasswordChange(t, testenv.MinIO(t), steps[:2], true, "")
	})
}

// begun tells whether the command, called again, has to end what was begun.
func testAKilledPasswordChange(t *testing.T, server *testenv.S3Server, steps []string, begun bool, names ...string) {
	t.Helper()
	dir, ctx := t.TempDir(), t.Context()
	file := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
	main := Config{Path: filepath.Join(dir, "main"), State: filepath.Join(dir, "state-main"), Password: secret(password)}
	other := Config{Path: filepath.Join(dir, "copy"), State: filepath.Join(dir, "state-copy"), Password: secret(password)}
	victim := exec.CommandContext(ctx, os.Args[0])
	victim.Dir = dir
	victim.Env = append(os.Environ(), "REMORA_TEST_PASSWORD=yes", "REMORA_TEST_STEP="+strings.Join(steps, " ")+" ", "REMORA_TEST_NAMES="+strings.Join(names, ","))
	if server != nil {
		main.Path, main.Bucket = "", server.Bucket()
		main.Bucket.Prefix, main.Bucket.Lock = "shop/backups/", lockedForADay
		victim.Env = append(victim.Env, "REMORA_TEST_BUCKET="+server.Address+"/"+main.Bucket.Name)
	}
	require.NoError(t, Create(ctx, main))
	if len(names) > 1 {
		other.CopyOf = reopened(t, main)
		require.NoError(t, Create(ctx, other))
	}
	said, err := victim.CombinedOutput()
	require.ErrorContains(t, err, "signal: killed", "%s", said)

	l := fromFile(file, main, other)
	defer func() { require.NoError(t, l.Close(ctx)) }()
	for _, name := range names {
		r, err := l.At(ctx, name)
		require.NoError(t, err, "%q opens by itself", name)
		require.NoError(t, r.RecordRestore(ctx, remora.Restore{ID: "r"}))
	}
	// The command again ends it, whatever password it would make now.
	ended, err := l.ChangePassword(ctx, file, names, "a third one")
	require.NoError(t, err)
	require.Equal(t, begun, ended)
	now, err := readFile(file)()
	require.NoError(t, err)
	require.Equal(t, map[bool]remora.Secret{true: another, false: "a third one"}[begun], now)
	require.NoFileExists(t, remora.NextFile(file))
	for _, cfg := range []Config{main, other} {
		if cfg.Path != other.Path || len(names) > 1 {
			cfg.Password = secret(now.Reveal())
			_ = reopened(t, cfg)
		}
	}
}

// kopia reads the format file every quarter of an hour, with the key that it was opened with.
func TestS13WhoIsAtWorkOutlivesAChangeOfThePassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte(password), 0o600))
	cfg, ctx := config(t), t.Context()
	require.NoError(t, Create(ctx, cfg))
	l := fromFile(file, cfg, config(t))
	defer func() { require.NoError(t, l.Close(ctx)) }()
	r, err := l.At(ctx, "")
	require.NoError(t, err)
	before, err := r.at.read(ctx, formatBlob)
	require.NoError(t, err)
	_, err = l.ChangePassword(ctx, file, []string{""}, another)
	require.NoError(t, err)
	var read buffer
	require.NoError(t, r.rep.BlobReader().GetBlob(ctx, formatBlob, 0, -1, &read))
	require.Equal(t, before, read.Bytes())
	after, err := r.at.read(ctx, formatBlob)
	require.NoError(t, err)
	require.NotEqual(t, before, after)

	// Elsewhere, where a copy of the old format file lies, that is not proposed to be put back.
	cfg.State = filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.MkdirAll(cfg.State, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.State, "repository-x.format"), before, 0o600))
	_, err = Open(ctx, cfg)
	require.ErrorContains(t, err, "the password was changed since")
}

func TestS13ARecoveryCopyCountsForItsPasswordAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte(password+"\n"), 0o640))
	cfg, ctx := config(t), t.Context()
	require.NoError(t, Create(ctx, cfg))
	l := fromFile(file, cfg, config(t))
	r, err := l.At(ctx, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close(ctx)) }()
	tried := func() bool {
		at, err := r.RecoveryTried(ctx)
		require.NoError(t, err)
		return !at.IsZero()
	}
	require.False(t, tried())
	err = r.TryRecovery(ctx, password+"x", "ada")
	require.Equal(t, remora.Denied, remora.KindOf(err))
	require.False(t, tried())
	require.NoError(t, r.TryRecovery(ctx, password, "ada"))
	require.True(t, tried())

	_, err = l.ChangePassword(ctx, file, []string{""}, another)
	require.NoError(t, err)
	require.False(t, tried(), "it is another password now")
	require.Error(t, r.TryRecovery(ctx, password, "ada"))
	require.NoError(t, r.TryRecovery(ctx, another, "ada"))
	require.True(t, tried())
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode().Perm(), "who may read it still may")
}

func TestAPasswordThatCannotBeReplacedSafelyIsLeft(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	file := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(file, []byte(password), 0o600))
	cfg := config(t)
	require.NoError(t, Create(ctx, cfg))
	l := fromFile(file, cfg, config(t))
	defer func() { require.NoError(t, l.Close(ctx)) }()
	_, err := l.ChangePassword(ctx, file, []string{"", "copy"}, another)
	require.Equal(t, remora.NotFound, remora.KindOf(err), "a copy that takes its password from there is away")
	require.ErrorContains(t, err, "open the copy copy")
	require.NoFileExists(t, remora.NextFile(file))

	_, err = l.ChangePassword(ctx, file, []string{""}, "ends with an end\n")
	require.Equal(t, remora.Invalid, remora.KindOf(err), "which nobody would read")
	require.NoFileExists(t, remora.NextFile(file))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(file, link))
	_, err = fromFile(link, cfg, config(t)).ChangePassword(ctx, link, []string{""}, another)
	require.Equal(t, remora.Invalid, remora.KindOf(err))
	second := filepath.Join(dir, "second")
	require.NoError(t, os.Link(file, second))
	_, err = l.ChangePassword(ctx, file, []string{""}, another)
	require.Equal(t, remora.Invalid, remora.KindOf(err), "its other name would go on with the old one")
	require.NoError(t, os.Remove(second))
	if os.Geteuid() == 0 { // engines mount the secrets of containers one by one: what lies beside them goes with the container
		answer := make(chan error)
		go func() {
			runtime.LockOSThread() // for good: the mounts are those of the thread
			err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(file, file, "", unix.MS_BIND, ""))
			if err == nil {
				_, err = l.ChangePassword(ctx, file, []string{""}, another)
			}
			answer <- err
		}()
		err := <-answer
		require.Equal(t, remora.Invalid, remora.KindOf(err), "%v", err)
	}
	require.NoFileExists(t, remora.NextFile(file))

	holder, err := os.Open(dir)
	require.NoError(t, err)
	defer func() { _ = holder.Close() }()
	require.NoError(t, unix.Flock(int(holder.Fd()), unix.LOCK_EX))
	_, err = l.ChangePassword(ctx, file, []string{""}, another)
	require.Equal(t, remora.Busy, remora.KindOf(err))
	now, err := readFile(file)()
	require.NoError(t, err)
	require.Equal(t, remora.Secret(password), now)
}
