package notify

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// canary is a password that must turn up nowhere.
const canary = "canary-Pa55"

// mailServer is a real one that takes what it is told to take.
type mailServer struct {
	address string
	roots   *x509.CertPool

	mu   sync.Mutex
	got  []envelope
	says map[string]error // what it answers to AUTH, MAIL, RCPT and DATA; once
	for_ map[string]error // the same for an address, always
	// logins counts those that told it a password.
	logins int
}

type envelope struct {
	to  []string
	raw []byte
}

// newMailServer starts a server: "starttls", "tls", or "none", which offers no encryption.
func newMailServer(t *testing.T, how string) *mailServer {
	certified := httptest.NewTLSServer(nil) // which has a certificate for 127.0.0.1
	t.Cleanup(certified.Close)
	m := &mailServer{roots: x509.NewCertPool(), says: map[string]error{}, for_: map[string]error{}}
	m.roots.AddCert(certified.Certificate())
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{m: m}, nil }))
	server.Domain, server.AllowInsecureAuth, server.ErrorLog = "mail.test", true, quiet{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m.address = l.Addr().String()
	secure := &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12}
	switch how {
	case "starttls":
		server.TLSConfig = secure
	case "tls":
		l = tls.NewListener(l, secure)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close(); _ = l.Close(); serving.Wait() }) // it may not have begun to serve
	return m
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

type session struct {
	m *mailServer
	e envelope
}

func (s *session) answer(step, to string) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.for_[to]; err != nil {
		return err
	}
	err := s.m.says[step]
	delete(s.m.says, step)
	return err
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		s.m.mu.Lock()
		s.m.logins++
		s.m.mu.Unlock()
		if user != "backup" || password != canary {
			return &smtp.SMTPError{Code: 535, Message: "no such user with " + password}
		}
		return s.answer("AUTH", "")
	}), nil
}

func (s *session) Mail(string, *smtp.MailOptions) error { return s.answer("MAIL", "") }

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.e.to = append(s.e.to, to)
	return s.answer("RCPT", to)
}

func (s *session) Data(r io.Reader) (err error) {
	if s.e.raw, err = io.ReadAll(r); err != nil {
		return err
	}
	if err := s.answer("DATA", ""); err != nil {
		return err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.got = append(s.m.got, s.e)
	return nil
}

func (s *session) Reset()        { s.e = envelope{} }
func (s *session) Logout() error { return nil }

func (m *mailServer) sender(how string) *Sender {
	s := New(Config{
		Host: "ops1", Zone: time.UTC, OnFailure: true,
		Email: &remora.Email{
			To: []string{"ops@example.com"}, From: "backup@example.com", Server: m.address, TLS: how,
			User: "backup", Password: func() (remora.Secret, error) { return canary, nil },
		},
	})
	if how == "none" {
		s.cfg.Email.User = ""
	}
	s.roots = m.roots
	return s
}

func failed() remora.Notice {
	n := examples()["backup-failed"]
	n.ID, n.At = "run-1/backup.failed/1", at
	return n
}

// read takes a mail apart.
func read(t *testing.T, raw []byte) (header mail.Header, text, html string) {
	t.Helper()
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	require.NoError(t, err)
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/alternative", kind)
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for _, want := range []string{"text/plain; charset=UTF-8", "text/html; charset=UTF-8"} {
		part, err := parts.NextRawPart()
		require.NoError(t, err)
		require.Equal(t, want, part.Header.Get("Content-Type"))
		require.Equal(t, "quoted-printable", part.Header.Get("Content-Transfer-Encoding"))
		content, err := io.ReadAll(quotedprintable.NewReader(part))
		require.NoError(t, err)
		text, html = html, string(content)
	}
	_, err = parts.NextRawPart()
	require.ErrorIs(t, err, io.EOF)
	return msg.Header, text, html
}

func TestMail(t *testing.T) {
	for _, how := range []string{"starttls", "tls", "none"} {
		t.Run(how, func(t *testing.T) {
			m := newMailServer(t, how)
			s := m.sender(how)
			for range 2 { // a crash between the delivery and the record of it tells it twice
				require.NoError(t, s.Send(t.Context(), "ops@example.com", failed()))
			}
			require.Len(t, m.got, 2)
			require.Equal(t, []string{"ops@example.com"}, m.got[0].to)
			h, text, html := read(t, m.got[0].raw)
			again, _, _ := read(t, m.got[1].raw)
			require.Equal(t, "[remora] shop: backup failed", h.Get("Subject"))
			require.Equal(t, `"Remora" <backup@example.com>`, h.Get("From"))
			require.Equal(t, "<ops@example.com>", h.Get("To"))
			require.Equal(t, "auto-generated", h.Get("Auto-Submitted"))
			require.Regexp(t, `^<[0-9a-f]{32}\.remora@example\.com>$`, h.Get("Message-ID"))
			require.Equal(t, h.Get("Message-ID"), again.Get("Message-ID"))
			_, err := h.Date()
			require.NoError(t, err)
			require.Contains(t, strings.ReplaceAll(text, "\r\n", "\n"), "      remora backup shop\n")
			require.Contains(t, html, ">remora backup shop</p>")
			require.NotContains(t, string(m.got[0].raw), canary)
			require.Equal(t, how != "none", m.logins > 0)
			require.Equal(t, remora.Fine, s.Check(t.Context())[0].Level)
			require.Len(t, m.got, 2, "a check sends nothing")

			other := failed()
			other.ID = "run-2/backup.failed/1"
			require.NoError(t, s.Send(t.Context(), "ops@example.com", other))
			another, _, _ := read(t, m.got[2].raw)
			require.NotEqual(t, h.Get("Message-ID"), another.Get("Message-ID"))
		})
	}
}

// What a server refuses for now is tried again; what it refuses for good, or who it does not know, is final. Nothing
// that it says of a password is told on.
func TestMailServerThatRefuses(t *testing.T) {
	later, never := &smtp.SMTPError{Code: 451, Message: "greylisted"}, &smtp.SMTPError{Code: 550, Message: "no such mailbox\r\nBcc: eve@example.com"}
	for name, c := range map[string]struct {
		says map[string]error
		kind remora.ProblemKind
		text string
	}{
		"greylisted":      {map[string]error{"RCPT": later}, remora.Unavailable, "greylisted"},
		"busy":            {map[string]error{"MAIL": &smtp.SMTPError{Code: 421, Message: "busy"}}, remora.Unavailable, "421"},
		"full":            {map[string]error{"DATA": &smtp.SMTPError{Code: 452, Message: "disk full"}}, remora.Unavailable, "disk full"},
		"no such mailbox": {map[string]error{"RCPT": never}, remora.Denied, "no such mailbox"},
		"spam":            {map[string]error{"DATA": &smtp.SMTPError{Code: 554, Message: "spam"}}, remora.Denied, "spam"},
		"sender":          {map[string]error{"MAIL": &smtp.SMTPError{Code: 553, Message: "not yours"}}, remora.Denied, "not yours"},
		"login":           {map[string]error{"AUTH": &smtp.SMTPError{Code: 535, Message: "wrong: " + canary}}, remora.Denied, "refused the user backup"},
		"login later":     {map[string]error{"AUTH": &smtp.SMTPError{Code: 454, Message: "later: " + canary}}, remora.Unavailable, "could not check"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMailServer(t, "starttls")
			m.says = c.says
			s := m.sender("starttls")
			err := s.Send(t.Context(), "ops@example.com", failed())
			require.Equal(t, c.kind, remora.KindOf(err), "%v", err)
			require.ErrorContains(t, err, c.text)
			p, _ := errors.AsType[*remora.Problem](err)
			require.NotEmpty(t, p.Hint)
			require.NotContains(t, err.Error()+p.Hint, canary)
			require.NotContains(t, err.Error(), "\n")
			require.Empty(t, m.got)
			require.NoError(t, s.Send(t.Context(), "ops@example.com", failed()), "once it takes it, it is delivered")
			require.Len(t, m.got, 1)
		})
	}
}

// One address that is gone keeps nobody else from being told.
func TestMailToOneThatIsGone(t *testing.T) {
	m := newMailServer(t, "starttls")
	m.for_["gone@example.com"] = &smtp.SMTPError{Code: 550, Message: "gone"}
	s := m.sender("starttls")
	s.cfg.Email.To = []string{"gone@example.com", "ops@example.com"}
	require.Equal(t, s.cfg.Email.To, s.Channels(failed()))
	require.Equal(t, remora.Denied, remora.KindOf(s.Send(t.Context(), "gone@example.com", failed())))
	require.NoError(t, s.Send(t.Context(), "ops@example.com", failed()))
	require.Len(t, m.got, 1)
}

// Nothing is told to a server that is not who it should be, or that somebody has talked out of encryption.
func TestMailWithoutTrust(t *testing.T) {
	for name, c := range map[string]struct {
		offers, wants string
		strange       bool
		text          string
	}{
		"encryption stripped": {"none", "starttls", false, "offers no encryption"},
		"plain port":          {"none", "tls", false, "TLS"},
		"encrypted port":      {"tls", "starttls", false, ""},
		"strange certificate": {"starttls", "starttls", true, "certificate"},
		"strange, encrypted":  {"tls", "tls", true, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMailServer(t, c.offers)
			s := m.sender(c.wants)
			s.mailTime = 2 * time.Second
			if name == "encrypted port" { // each waits for the other to begin
				s.mailTime = 100 * time.Millisecond
			}
			if c.strange {
				s.roots = x509.NewCertPool()
			}
			err := s.Send(t.Context(), "ops@example.com", failed())
			require.Equal(t, remora.Unavailable, remora.KindOf(err), "%v", err)
			require.ErrorContains(t, err, c.text)
			require.Empty(t, m.got)
			require.Zero(t, m.logins, "no password is told")
			require.NotContains(t, err.Error(), canary)
		})
	}
	t.Run("password without encryption", func(t *testing.T) {
		m := newMailServer(t, "none")
		s := m.sender("none")
		s.cfg.Email.User = "backup"
		require.Equal(t, remora.Invalid, remora.KindOf(s.Send(t.Context(), "ops@example.com", failed())))
		require.Zero(t, m.logins)
	})
}

// F45: a server that is away, or takes its time, costs no more than the time that a mail has.
func TestMailServerThatIsAway(t *testing.T) {
	listen := func(t *testing.T, serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					serve(conn)
					_ = conn.Close()
				})
			}
		})
		t.Cleanup(func() { _ = l.Close(); serving.Wait() })
		return l.Addr().String()
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	for name, address := range map[string]string{
		"refused": gone.Addr().String(),
		"no name": "mail.invalid:25",
		"silent":  listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }),
		"tarpit": listen(t, func(c net.Conn) { // a byte now and then, for ever
			for _, err := c.Write([]byte("220")); err == nil; _, err = c.Write([]byte("-")) {
				_ = c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				_, _ = c.Read(make([]byte, 1)) // the deadline is the pause
			}
		}),
		"slow steps": listen(t, func(c net.Conn) { // each step is in time, all of them are not
			reading := make([]byte, 512)
			for _, err := c.Write([]byte("220 slow\r\n")); err == nil; _, err = c.Write([]byte("250 slow\r\n")) {
				if _, err := c.Read(reading); err != nil {
					return
				}
				_ = c.SetReadDeadline(time.Now().Add(120 * time.Millisecond))
				_, _ = c.Read(reading)
				_ = c.SetReadDeadline(time.Time{})
			}
		}),
		"hangs up": listen(t, func(c net.Conn) { _, _ = c.Write([]byte("220 mail\r\n")) }),
	} {
		t.Run(name, func(t *testing.T) {
			m := &mailServer{address: address}
			s := m.sender("none")
			s.mailTime = 300 * time.Millisecond
			began := time.Now()
			err := s.Send(t.Context(), "ops@example.com", failed())
			require.Equal(t, remora.Unavailable, remora.KindOf(err), "%v", err)
			require.Less(t, time.Since(began), 5*time.Second)
			p, _ := errors.AsType[*remora.Problem](err)
			require.NotEmpty(t, p.Hint)
		})
	}
}

// Attacks 37 and 38 on a real server: hostile names stay in the one line that they are part of.
func TestHostileNamesInMail(t *testing.T) {
	m := newMailServer(t, "starttls")
	s := m.sender("starttls")
	for _, hostile := range []string{
		"shop\r\nBcc: eve@example.com\r\n\r\n<script>", "shop\nX-Evil: 1", "\u202egpj.exe", strings.Repeat("Ä\r\n{{", 2500), "shop\r\n.\r\nMAIL FROM:<eve@example.com>",
	} {
		m.got = nil
		n := failed()
		n.Source, n.Problem, n.Hint, n.Subject, n.ID = hostile, hostile, hostile, hostile, hostile
		require.NoError(t, s.Send(t.Context(), "ops@example.com", n))
		require.Len(t, m.got, 1)
		require.Equal(t, []string{"ops@example.com"}, m.got[0].to)
		h, _, html := read(t, m.got[0].raw)
		for name := range h {
			require.Contains(t, []string{"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To", "User-Agent", "X-Mailer"}, name)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
		require.NoError(t, err)
		require.NotContains(t, subject, "\n")
		require.NotContains(t, html, "<script")
	}
	for _, to := range []string{"ops@example.com\r\nBcc: eve@example.com", "ops@example.com> SIZE=1", "a@b, eve@example.com"} {
		m.got = nil
		require.Equal(t, remora.Invalid, remora.KindOf(s.Send(t.Context(), to, failed())), "%q", to)
		require.Empty(t, m.got)
	}
}

func TestChannels(t *testing.T) {
	all := []string{"ops@example.com", remora.WebhookChannel}
	for _, success := range []bool{false, true} {
		for _, failure := range []bool{false, true} {
			s := New(Config{OnSuccess: success, OnFailure: failure, Email: &remora.Email{To: all[:1]}, Webhook: &remora.Webhook{}})
			for _, n := range examples() {
				told := true
				switch n.Event {
				case remora.BackupCompleted:
					told = success
				case remora.BackupFailed, remora.SlotSkipped, remora.CopyFailed:
					told = failure
				}
				require.Equal(t, told, len(s.Channels(n)) == 2, n.Event)
			}
		}
	}
	require.Empty(t, New(Config{OnFailure: true}).Channels(failed()))
	require.Equal(t, []string{"ada@example.com"}, New(Config{Email: &remora.Email{To: all[:1]}}).Channels(remora.Notice{Event: remora.TestEvent, To: "ada@example.com"}))
	require.Equal(t, remora.Invalid, remora.KindOf(New(Config{}).Send(t.Context(), remora.WebhookChannel, failed())))
	require.Equal(t, remora.Invalid, remora.KindOf(New(Config{}).Send(t.Context(), "ops@example.com", failed())))
}
