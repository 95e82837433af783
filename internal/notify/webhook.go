package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

const (
	webhookOp = "call the webhook"
	makeKey   = `Make one with: printf 'whsec_%s\n' "$(openssl rand -base64 32)" > FILE; chmod 600 FILE`
)

// body is what a webhook gets. Title and Text are what a mail says.
type body struct {
	Type      remora.Event  `json:"type"`
	Timestamp time.Time     `json:"timestamp"`
	Host      string        `json:"host"`
	Title     string        `json:"title"`
	Text      string        `json:"text"`
	Data      remora.Notice `json:"data"`
}

// call posts a notice, signed after the convention of Standard Webhooks. Redirects and proxies are not followed: what
// was signed goes to the server that was configured.
func (s *Sender) call(ctx context.Context, n remora.Notice, m message) error {
	to := s.cfg.Webhook.URL
	fail := func(kind remora.ProblemKind, hint, why string, args ...any) error {
		return remora.Fail(kind, webhookOp, place(to), hint, why, args...)
	}
	const correct = "Correct notify.webhook.url on the machine of the worker."
	key, err := s.key()
	if err != nil {
		return err
	}
	text, err := json.Marshal(body{n.Event, n.At.UTC(), s.cfg.Host, m.Subject, m.text(), clean(n)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(text))
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return fail(remora.Invalid, correct, "this is not the URL of a web server")
	}
	id, at := fmt.Sprintf("%x", sha256.Sum256([]byte(n.ID)))[:32], strconv.FormatInt(s.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "remora")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", at)
	req.Header.Set("webhook-signature", "v1,"+sign(key, id, at, text))
	client := http.Client{
		Timeout:       s.webhookTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Control: refuseOwn}).DialContext},
	}
	answer, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if u, ok := errors.AsType[*url.Error](err); ok { // which names the whole URL, and that may hold a token
			err = u.Err
		}
		if errors.Is(err, errOwn) {
			return fail(remora.Invalid, correct, "%w", errOwn)
		}
		return fail(remora.Unavailable, "See whether it is up and can be reached from the worker; it is tried again for a day.", "%w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // it says nothing that matters
	_ = answer.Body.Close()
	switch status := answer.StatusCode; {
	case status >= 200 && status < 300:
		return nil
	case status >= 300 && status < 400:
		return fail(remora.Invalid, "Write the URL that it points to.", "it answered %s; redirects are not followed", answer.Status)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fail(remora.Denied, "See that both sides have the same secret, and the URL is right.", "it answered %s", answer.Status)
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
		return fail(remora.Invalid, correct, "it answered %s", answer.Status)
	default:
		return fail(remora.Unavailable, "See into its log; it is tried again for a day.", "it answered %s", answer.Status)
	}
}

// key reads the secret that signs.
func (s *Sender) key() ([]byte, error) {
	secret, err := s.cfg.Webhook.Secret()
	if err != nil {
		return nil, err
	}
	text, marked := strings.CutPrefix(secret.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !marked || err != nil || len(key) < 24 { // err names a place in the secret, and is not told
		return nil, remora.Fail(remora.Invalid, webhookOp, "notify.webhook", makeKey, "its secret is not whsec_ and then at least 24 bytes in base64")
	}
	return key, nil
}

// sign gives the signature that stands after "v1,".
func sign(key []byte, id, at string, text []byte) string {
	h := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(h, "%s.%s.%s", id, at, text) // a hash takes everything
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

var errOwn = errors.New("its name leads to an address where clouds tell machines their secrets, or to none that a server can have")

// refuseOwn sees to what a name has led to, whatever it leads to next time. Private networks and this machine are where
// many webhooks live; link-local addresses and the metadata services of clouds are not.
func refuseOwn(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	ip := at.Addr().Unmap().WithZone("")
	switch {
	case err != nil, ip.IsLinkLocalUnicast(), ip.IsUnspecified(), ip.IsMulticast(),
		ip == netip.MustParseAddr("fd00:ec2::254"), ip == netip.MustParseAddr("100.100.100.200"):
		return errOwn
	}
	return nil
}

// place is where a URL leads, without what may be a token in it.
func place(to string) string {
	u, err := url.Parse(to)
	if err != nil {
		return "notify.webhook.url"
	}
	return u.Scheme + "://" + u.Host
}
