package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/testenv"
	"github.com/stretchr/testify/require"
)

// impatient is the usual patience in a thirtieth of its time. REMORA_PATIENCE=usual measures what people wait.
func impatient() patience {
	if os.Getenv("REMORA_PATIENCE") == "usual" {
		return usual
	}
	return patience{tries: usual.tries, total: usual.total / 30, idle: usual.idle / 60, pause: usual.pause / 30}
}

// attempt is one backup under a fault, which begins at a point of it.
type attempt struct {
	storm *testenv.Storm
	cfg   Config
	r     *Repository // nil: it opens one itself
	when  string      // open, write, middle, commit
	begin func()
	made  *remora.Manifest // what was committed
}

func (a *attempt) at(when string) {
	if a.when == when {
		a.begin()
	}
}

// run takes a backup of noise, as an activity would.
func (a *attempt) run(ctx context.Context, seed uint64) error {
	a.at("open")
	r := a.r
	if r == nil {
		var err error
		if r, err = Open(ctx, a.cfg); err != nil {
			return err
		}
		defer func() { _ = r.Close(context.WithoutCancel(ctx)) }()
	}
	a.at("write")
	m := draft("shop", fmt.Sprintf("run-%d", seed))
	m.Started = m.Started.Add(time.Duration(seed) * time.Second) // no two have one id
	m.ID = remora.BackupID("shop", m.Run, "", m.Started)
	p, err := r.Begin(ctx, Spec{Source: m.Source, Run: m.Run, Backup: m.ID, Kind: remora.Database})
	if err != nil {
		return err
	}
	defer func() { _ = p.Abort(context.WithoutCancel(ctx)) }()
	err = p.Put(ctx, "rows.tsv", func(w io.Writer) error {
		size := 3 << 20
		if a.when == "middle" {
			size = 25 << 20 // more than a pack
		}
		_, err := w.Write(noise(seed, size))
		a.at("middle")
		return errors.Join(err, func() error { _, err := w.Write(noise(seed+1000, 3<<20)); return err }())
	})
	if err != nil {
		return err
	}
	root, added, err := p.Finish(ctx)
	if err != nil {
		return err
	}
	m.Kind = remora.DatabaseBackup
	m.Parts = []remora.PartRef{{Kind: remora.Database, Root: root, Added: added, Started: m.Started, Ended: time.Now().UTC()}}
	a.at("commit")
	m, err = r.Commit(ctx, m)
	if err != nil {
		return err
	}
	a.made = &m
	_, err = r.Verify(ctx, m.ID, nil)
	return err
}

func TestFaultsOfAStorageEndInTimeAndLoseNothing(t *testing.T) {
	t.Parallel()
	server := testenv.MinIO(t)
	weather := testenv.NewStorm(t, server.Address)
	calm := inBucket(t, server)
	require.NoError(t, Create(t.Context(), calm))
	r := reopened(t, calm)
	kept := []remora.Manifest{backedUp(t, r, draft("shop", "run-0"), map[string][]byte{"rows.tsv": noise(9, 3<<20)})}

	slow := func(n int64, _ *http.Request) testenv.Fault { // 30 % of all calls
		switch n * 7 % 10 {
		case 0, 1:
			return testenv.Answer(http.StatusServiceUnavailable, "SlowDown")
		case 2:
			return testenv.Answer(http.StatusInternalServerError, "InternalError")
		}
		return nil
	}
	full := testenv.Answer(http.StatusInsufficientStorage, "XMinioStorageFull")
	quota := testenv.Answer(http.StatusBadRequest, "XMinioAdminBucketQuotaExceeded")
	expired := testenv.Answer(http.StatusBadRequest, "ExpiredToken")
	through := *calm.Bucket
	through.Endpoint = weather.Address
	stormy := Config{Bucket: &through, State: t.TempDir(), Password: calm.Password, patience: impatient()}
	long := reopened(t, stormy) // it lives through all of it, as a worker does
	for i, f := range []struct {
		name string
		when string
		now  func(n int64, r *http.Request) testenv.Fault
		kind remora.ProblemKind // empty where the backup completes in spite of it
		says string
	}{
		{name: "503 SlowDown or 500 on 30 % of the calls", when: "open", now: slow},
		{name: "503 SlowDown on all", when: "write", now: testenv.Always(testenv.Answer(http.StatusServiceUnavailable, "SlowDown")), kind: remora.Unavailable, says: "overloaded"},
		{name: "every 25th call stalls, no byte comes", when: "write", now: testenv.Every(25, testenv.Stall)},
		{name: "all calls stall", when: "write", now: testenv.Always(testenv.Stall), kind: remora.Unavailable, says: "can be reached"},
		{name: "all calls stall at the commit", when: "commit", now: testenv.Always(testenv.Stall), kind: remora.Unavailable, says: "can be reached"},
		{name: "uploads and downloads are reset after some bytes, every third", when: "open", now: testenv.Every(3, testenv.Cut, "PUT", "GET")},
		{name: "every upload is reset after 1000 bytes", when: "middle", now: testenv.Always(testenv.Cut, "PUT"), kind: remora.Unavailable, says: "can be reached"},
		{name: "the answer gets lost after the storage has acted, every second time", when: "open", now: testenv.Every(2, testenv.Lose, "PUT", "DELETE")},
		{name: "expired keys", when: "middle", now: testenv.Always(expired), kind: remora.Denied, says: "check the keys"},
		{name: "keys that are being rotated: two calls are refused", when: "write", now: func(n int64, _ *http.Request) testenv.Fault {
			if n <= 2 {
				return testenv.Answer(http.StatusForbidden, "SignatureDoesNotMatch")
			}
			return nil
		}},
		{name: "access denied to uploads", when: "write", now: testenv.Always(testenv.Answer(http.StatusForbidden, "AccessDenied"), "PUT"), kind: remora.Denied, says: "check the keys"},
		{name: "the clock is wrong", when: "open", now: testenv.Always(testenv.Skewed), kind: remora.Unavailable, says: "clock"},
		{name: "storage full (507)", when: "middle", now: testenv.Always(full, "PUT"), kind: remora.Full, says: "make room"},
		{name: "quota exceeded", when: "commit", now: testenv.Always(quota, "PUT"), kind: remora.Full, says: "quota"},
		{name: "the bucket is said to be gone", when: "middle", now: testenv.Always(testenv.Answer(http.StatusNotFound, "NoSuchBucket"), "PUT", "GET"), kind: remora.NotFound, says: "removed the bucket"},
		{name: "down at the start", when: "open", kind: remora.Unavailable, says: "can be reached"},
		{name: "down in the middle", when: "middle", kind: remora.Unavailable, says: "can be reached"},
		{name: "down at the commit of the manifest", when: "commit", kind: remora.Unavailable, says: "can be reached"},
	} {
		t.Run(f.name, func(t *testing.T) {
			var began time.Time
			a := &attempt{storm: weather, when: f.when, cfg: stormy}
			if f.when != "open" {
				a.r = long
			}
			a.begin = func() {
				began = time.Now()
				if f.now == nil {
					weather.Down()
					return
				}
				weather.Begin(f.now)
			}
			err := a.run(t.Context(), uint64(i+1))
			took := time.Since(began)
			if f.now == nil {
				weather.Up(t)
			} else {
				require.Positive(t, weather.Fired(), "the fault never happened")
			}
			weather.Begin(nil)
			outcome := "the backup completes"
			if f.kind == "" {
				require.NoError(t, err)
				kept = append(kept, *a.made)
			} else {
				requireProblem(t, err, f.kind, f.says, calm.Bucket.Name)
				require.NotContains(t, err.Error(), testenv.S3SecretKey)
				require.Nil(t, a.made)
				outcome = fmt.Sprintf("%s: %v", f.kind, err)
				require.Less(t, took, 2*(a.cfg.patience.total+a.cfg.patience.idle)+2*time.Second)
			}
			t.Logf("| %s | %s | %.1f |", f.name, outcome, took.Seconds())

			all, err := r.List(t.Context(), Filter{})
			require.NoError(t, err)
			require.Len(t, all, len(kept), "what failed is not listed")
			verified(t, r, kept[i%len(kept)].ID)
		})
	}
	for _, m := range kept {
		verified(t, r, m.ID)
	}
	a := &attempt{r: long}
	require.NoError(t, a.run(t.Context(), 100), "when the weather is fine again, nothing is left to repair")
}
