package testenv

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/remora-backup/remora/internal/remora"
)

// The keys of the user who may do everything in a storage.
const (
	S3AccessKey = "remora-test"
	S3SecretKey = "not-a-secret"
)

// S3Server is a running storage that speaks S3, without TLS. Safe for concurrent use, but for Kill and Restart.
type S3Server struct {
	// Address is the host and port that it listens on, the same after a restart.
	Address string
	// Data is the directory of all that it stores.
	Data string

	env     *environment
	tool    string
	dir     string
	port    int
	process server
}

// MinIO returns the MinIO that the tests of this binary share.
func MinIO(t testing.TB) *S3Server { return sharedS3(t, environmentOf(t).minio) }

// VersityGW returns the Versity S3 Gateway that the tests of this binary share; it keeps each object as a file.
func VersityGW(t testing.TB) *S3Server { return sharedS3(t, environmentOf(t).versitygw) }

func sharedS3(t testing.TB, start func() (*S3Server, error)) *S3Server {
	t.Helper()
	server, err := start()
	if err != nil {
		t.Fatal("start an S3 storage: ", err)
	}
	return server
}

// NewMinIO returns an empty MinIO for this test alone. It is gone when the test ends.
func NewMinIO(t testing.TB) *S3Server {
	t.Helper()
	server, err := environmentOf(t).startS3("minio")
	if err != nil {
		t.Fatal("start MinIO: ", err)
	}
	t.Cleanup(func() {
		server.process.kill()
		_ = os.RemoveAll(server.dir) // once more when the binary ends
	})
	return server
}

func (e *environment) startS3(tool string) (*S3Server, error) {
	dir, err := os.MkdirTemp(e.dir, tool+"-")
	if err != nil {
		return nil, err
	}
	s := &S3Server{env: e, tool: tool, dir: dir, Data: filepath.Join(dir, "data")}
	if err := os.Mkdir(s.Data, 0o700); err != nil {
		return nil, err
	}
	for range 3 { // somebody may take the port before the server does
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		s.Address = "127.0.0.1:" + strconv.Itoa(s.port)
		if err = s.start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func (s *S3Server) start() error {
	program, err := s.env.tool("build-tool", s.tool)
	if err != nil {
		return err
	}
	args := []string{"--port=" + s.Address, "--keep-alive", "--quiet", "posix", s.Data}
	if s.tool == "minio" {
		args = []string{"server", "--quiet", "--address=" + s.Address, "--certs-dir=" + filepath.Join(s.dir, "certs"), s.Data}
	}
	environ := []string{
		"HOME=" + s.dir, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_ROOT_USER=" + S3AccessKey, "MINIO_ROOT_PASSWORD=" + S3SecretKey,
		"ROOT_ACCESS_KEY_ID=" + S3AccessKey, "ROOT_SECRET_ACCESS_KEY=" + S3SecretKey,
	}
	image, err := image(s.tool)
	if err != nil {
		return err
	}
	if s.process, err = s.env.serve(image, s.dir, environ, program, args...); err != nil {
		return err
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	err = poll(time.Minute, func() error {
		if err := s.process.alive(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := client.ListBuckets(ctx)
		return err
	})
	if err != nil {
		s.process.kill()
	}
	return err
}

func (s *S3Server) client() (*minio.Client, error) {
	return minio.New(s.Address, &minio.Options{Creds: credentials.NewStaticV4(S3AccessKey, S3SecretKey, ""), MaxRetries: 1})
}

// Client speaks with the storage as the user who may do everything.
func (s *S3Server) Client(t testing.TB) *minio.Client {
	t.Helper()
	client, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Bucket names a bucket that does not exist yet, with a name of its own.
func (s *S3Server) Bucket() *remora.Bucket {
	return &remora.Bucket{
		Endpoint: s.Address, Plain: true, Name: "remora-" + strings.ToLower(rand.Text()[:10]),
		AccessKey: func() (remora.Secret, error) { return S3AccessKey, nil },
		SecretKey: func() (remora.Secret, error) { return S3SecretKey, nil },
	}
}

// Kill ends the server with SIGKILL, as a crash would.
func (s *S3Server) Kill(t testing.TB) {
	t.Helper()
	s.process.kill()
}

// Restart starts a server again that was killed, and kills it before if it was not. Address and data stay.
func (s *S3Server) Restart(t testing.TB) {
	t.Helper()
	s.process.kill()
	if err := s.start(); err != nil {
		t.Fatal("start the S3 storage again: ", err)
	}
}
