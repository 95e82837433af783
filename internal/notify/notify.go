// Package notify tells people what happened: by mail, and by a signed POST to a webhook. It sends one notice to one
// channel, once; that it is tried again, and for how long, is up to the workflow that asks. A notice that is sent again
// carries the same Message-ID and the same webhook-id, so that it can be told from a new one.
package notify

import (
	"cmp"
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Config says who is told what.
type Config struct {
	// Email is nil where no mail is sent, Webhook where none is called.
	Email   *remora.Email
	Webhook *remora.Webhook
	// OnSuccess tells of backups that completed, OnFailure of backups and copies that did not. Whatever else there is to
	// tell is always told.
	OnSuccess, OnFailure bool
	// Host names this machine in what is sent.
	Host string
	// Zone is in which local time people read, beside UTC; nil means that of this machine.
	Zone *time.Location
}

// Sender tells people. It is safe for concurrent use.
type Sender struct {
	cfg  Config
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// roots are whom certificates of mail servers are trusted from; nil means those that this machine trusts.
	roots *x509.CertPool
	now   func() time.Time
	// mailTime, greetTime and webhookTime bound what a server may take for a mail, for a greeting, and for a call.
	mailTime, greetTime, webhookTime time.Duration
}

// New makes a Sender. It asks nobody.
func New(cfg Config) *Sender {
	cfg.Zone = cmp.Or(cfg.Zone, time.Local)
	return &Sender{
		cfg: cfg, dial: (&net.Dialer{}).DialContext, now: time.Now,
		mailTime: 30 * time.Second, greetTime: 10 * time.Second, webhookTime: 15 * time.Second,
	}
}

// Channels names those that a notice goes to: mail addresses, and remora.WebhookChannel.
func (s *Sender) Channels(n remora.Notice) (to []string) {
	switch n.Event {
	case remora.BackupCompleted:
		if !s.cfg.OnSuccess {
			return nil
		}
	case remora.BackupFailed, remora.SlotSkipped, remora.CopyFailed:
		if !s.cfg.OnFailure {
			return nil
		}
	}
	if n.To != "" {
		return []string{n.To}
	}
	if s.cfg.Email != nil {
		to = append(to, s.cfg.Email.To...)
	}
	if s.cfg.Webhook != nil {
		to = append(to, remora.WebhookChannel)
	}
	return to
}

// Send tells one channel. Its error is a Problem: retryable where another try may succeed.
func (s *Sender) Send(ctx context.Context, to string, n remora.Notice) error {
	m, err := s.write(n)
	switch {
	case err != nil:
		return remora.Fail(remora.Invalid, "write the notice", string(n.Event), "This is a bug in Remora.", "%w", err)
	case to == remora.WebhookChannel && s.cfg.Webhook != nil:
		return s.call(ctx, n, m)
	case to != remora.WebhookChannel && s.cfg.Email != nil:
		return s.mail(ctx, to, n, m)
	default:
		return remora.Fail(remora.Invalid, "tell people", to, "Configure it under notify on the machine of the worker, and start the worker again.", "it is not configured")
	}
}

// Check tells how the channels are, without telling anybody anything.
func (s *Sender) Check(ctx context.Context) (found []remora.Finding) {
	tried := func(channel string, err error, fine string) {
		if err != nil {
			found = append(found, remora.FoundProblem(channel, remora.ProblemOf("check the "+channel, err)))
			return
		}
		found = append(found, remora.Found(remora.Fine, channel, "%s (try it: remora notify test)", fine))
	}
	if e := s.cfg.Email; e != nil {
		tried("mail", s.greet(ctx), e.Server+" takes mail of "+e.From)
	}
	if w := s.cfg.Webhook; w != nil {
		_, err := s.key()
		tried("webhook", err, place(w.URL)+" was not called")
	}
	return found
}
