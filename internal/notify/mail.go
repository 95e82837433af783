package notify

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/remora-backup/remora/internal/remora"
)

const mailOp = "send mail"

// mail sends a notice to one address. Each address has a mail of its own: one that is refused keeps nobody else from
// being told.
func (s *Sender) mail(ctx context.Context, to string, n remora.Notice, m message) error {
	e := s.cfg.Email
	msg := mail.NewMsg()
	if err := msg.FromFormat("Remora", e.From); err != nil {
		return invalidMail(e.From, "this is not a mail address")
	}
	if err := msg.To(to); err != nil {
		return invalidMail(to, "this is not a mail address")
	}
	html, err := m.html()
	if err != nil {
		return invalidMail(string(n.Event), err.Error())
	}
	_, domain, _ := strings.Cut(e.From, "@")
	id := sha256.Sum256([]byte(n.ID))
	msg.SetMessageIDWithValue(hex.EncodeToString(id[:16]) + ".remora@" + domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.Subject(m.Subject)
	msg.SetBodyString(mail.TypeTextPlain, m.text())
	msg.AddAlternativeString(mail.TypeTextHTML, html)
	return s.withServer(ctx, s.mailTime, func(ctx context.Context, c *mail.Client) error {
		if err := c.DialWithContext(ctx); err != nil {
			return err
		}
		err := c.Send(msg)
		if msg.IsDelivered() { // what comes after that changes nothing
			err = nil
		}
		_ = c.Close()
		return err
	})
}

// greet finds out whether the server would take mail: it answers, is encrypted as it should be, and knows the user.
func (s *Sender) greet(ctx context.Context) error {
	return s.withServer(ctx, s.greetTime, func(ctx context.Context, c *mail.Client) error {
		err := c.DialWithContext(ctx)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// withServer does something with the mail server within a limit, and says what went wrong in the words of a person.
func (s *Sender) withServer(ctx context.Context, limit time.Duration, do func(context.Context, *mail.Client) error) error {
	e := s.cfg.Email
	host, port, err := net.SplitHostPort(e.Server)
	number, err2 := strconv.Atoi(port)
	if err != nil || err2 != nil {
		return invalidMail(e.Server, "this is not host:port")
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	secure := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: s.roots}
	// The library puts its deadline off with each step; closing the connection ends a server that takes its time for good.
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := s.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		if e.TLS != "tls" {
			return conn, nil
		}
		encrypted := tls.Client(conn, secure)
		return encrypted, encrypted.HandshakeContext(ctx)
	}
	options := []mail.Option{
		mail.WithPort(number), mail.WithTimeout(limit), mail.WithTLSConfig(secure), mail.WithoutNoop(),
		mail.WithDialContextFunc(func(_ context.Context, network, address string) (net.Conn, error) { return dial(ctx, network, address) }),
		mail.WithTLSPolicy(map[string]mail.TLSPolicy{"tls": mail.TLSOpportunistic, "none": mail.NoTLS}[e.TLS]), // otherwise mandatory
	}
	var password remora.Secret
	if e.User != "" {
		if e.TLS == "none" {
			return invalidMail(e.Server, "a password is not told without encryption")
		}
		if password, err = e.Password(); err != nil {
			return err
		}
		options = append(options, mail.WithUsername(e.User), mail.WithPassword(password.Reveal()),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthPlain, mail.SMTPAuthLogin, mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthCramMD5))
	}
	c, err := mail.NewClient(host, options...)
	if err != nil {
		return invalidMail(e.Server, err.Error())
	}
	err = do(ctx, c)
	switch {
	case err == nil:
		return nil
	case parent.Err() != nil:
		return parent.Err()
	case ctx.Err() != nil:
		err = fmt.Errorf("the server did not finish within %s", limit)
	}
	return s.mailProblem(err)
}

func invalidMail(subject, why string) error {
	return remora.Fail(remora.Invalid, mailOp, subject, "Correct notify.email on the machine of the worker.", "%s", why)
}

// mailProblem reads what a mail server meant. What it says of a login is left out: it may repeat what it was told.
func (s *Sender) mailProblem(err error) error {
	e := s.cfg.Email
	fail := func(kind remora.ProblemKind, hint, why string, args ...any) error {
		return remora.Fail(kind, mailOp, e.Server, hint, why, args...)
	}
	code := 0
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		code = answer.Code
	}
	refused, sending := errors.AsType[*mail.SendError](err)
	if sending {
		code = refused.ErrorCode()
	}
	const see = "See whether the mail server is up and can be reached from the worker; it is tried again for a day."
	login := strings.HasPrefix(err.Error(), "SMTP AUTH failed")
	switch {
	case login && code >= 500:
		return fail(remora.Denied, "Correct notify.email.smtp: user, and password_file or password_env.", "the server refused the user %s and its password (%d)", e.User, code)
	case login:
		return fail(remora.Unavailable, see, "the server could not check the user and its password (%d)", code)
	case strings.Contains(err.Error(), "does not support STARTTLS"):
		return fail(remora.Unavailable, "Encrypt on that port, or name the port that does (tls: tls is mostly 465). Without encryption mail is sent only where tls: none says so.",
			"the server offers no encryption (STARTTLS), so nothing was told to it")
	case strings.Contains(err.Error(), "does not support SMTP AUTH"), errors.Is(err, mail.ErrNoSupportedAuthDiscovered):
		return fail(remora.Denied, "Remove notify.email.smtp.user, or name the port for mail of users (mostly 587 or 465).", "the server offers no way to log in")
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return fail(remora.Unavailable, "Let the server show a certificate that this machine trusts, for the name that is configured.", "%w", err)
	case errors.As(err, new(tls.RecordHeaderError)):
		return fail(remora.Unavailable, "See whether the port is right for tls: "+e.TLS+" (starttls is mostly 587, tls mostly 465).", "what answers there does not speak TLS")
	case sending && !refused.IsTemp() && code >= 500:
		return fail(remora.Denied, "See what the mail server says, and correct notify.email: to or from.", "the server refused it: %s", said(err))
	case sending && code != 0:
		return fail(remora.Unavailable, "It is tried again for a day.", "the server does not take it now: %s", said(err))
	default:
		return fail(remora.Unavailable, see, "%s", said(err))
	}
}

// said is what a server answered, without what the library adds.
func said(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", affected ")
	return remora.Cut(remora.OneLine(text), 500)
}
