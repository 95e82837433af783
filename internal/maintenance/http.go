package maintenance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/remora-backup/remora/internal/remora"
)

// Hook asks the application, or something in front of it, over HTTP. Each request may be repeated.
type Hook struct {
	Source string
	// Enter and Leave are URLs that take a POST of {"source", "run", "action"} and answer with 2xx when it is done.
	Enter, Leave string
	// Status, where given, is a URL of the application, which answers 503 to a GET while it is offline.
	Status string
	// Token, where given, is sent with every POST as "Authorization: Bearer …". It is read each time.
	Token remora.SecretFunc
}

// Hooks takes an application offline and back by HTTP.
func Hooks(h Hook) Mode { return hook{h} }

type hook struct{ h Hook }

func (m hook) String() string { return "hook " + place(m.h.Enter) }

// place is a URL without what may be secret in it.
func place(text string) string {
	u, _ := url.Parse(text) // it was read as one
	return u.Scheme + "://" + u.Host + u.Path
}

func (m hook) Enter(ctx context.Context, run string) error {
	return m.post(ctx, "take the application offline", m.h.Enter, run, "enter")
}

func (m hook) Leave(ctx context.Context, run string) error {
	return m.post(ctx, "bring the application back", m.h.Leave, run, "leave")
}

func (m hook) Offline(ctx context.Context, _ string) (bool, error) {
	if m.h.Status == "" {
		return false, nil
	}
	const op = "ask whether the application is offline"
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, m.h.Status, nil) // it was read as a URL
	status, err := ask(req)
	switch {
	case err != nil:
		return false, m.problem(op, m.h.Status, remora.Unavailable, err)
	case status == http.StatusServiceUnavailable:
		return true, nil
	case status >= 500:
		return false, m.problem(op, m.h.Status, remora.Unavailable, answered(status))
	}
	return false, nil
}

func (m hook) post(ctx context.Context, op, to, run, action string) error {
	body, err := json.Marshal(map[string]string{"source": m.h.Source, "run": run, "action": action})
	if err != nil {
		return err
	}
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body)) // it was read as a URL
	req.Header.Set("Content-Type", "application/json")
	if m.h.Token != nil {
		token, err := m.h.Token()
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	status, err := ask(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return m.problem(op, to, remora.Unavailable, err)
	}
	why := answered(status)
	switch {
	case why == nil:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return m.problem(op, to, remora.Denied, why)
	case status >= 300 && status < 400:
		return m.problem(op, to, remora.Invalid, fmt.Errorf("%w: redirects are not followed", why))
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusBadRequest:
		return m.problem(op, to, remora.Invalid, why)
	default:
		return m.problem(op, to, remora.Unavailable, why)
	}
}

func (m hook) problem(op, where string, kind remora.ProblemKind, err error) error {
	hint := "See whether " + place(where) + " is up."
	switch kind {
	case remora.Denied:
		hint = "Correct the token in maintenance.http."
	case remora.Invalid:
		hint = "Correct the URL in maintenance.http."
	}
	return &remora.Problem{Op: op, Kind: kind, Subject: place(where), Hint: hint, Err: err}
}

// Visit asks the application for a page, as its users do, with a pass through the maintenance where there is one. It
// gives why the answer is not 2xx; "" means that all is well. An application that was just touched is given a few tries.
func Visit(ctx context.Context, page string, pass *http.Cookie) (why string, err error) {
	for try := 1; ; try++ {
		if why, err = visit(ctx, page, pass); err != nil || why == "" || try == 3 {
			return why, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func visit(ctx context.Context, page string, pass *http.Cookie) (why string, err error) {
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, page, nil) // it was read as a URL
	req.Header.Set("User-Agent", "remora")
	if pass != nil {
		req.AddCookie(pass)
	}
	status, err := ask(req)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		err = answered(status)
	}
	if err != nil {
		return err.Error(), nil //nolint:nilerr // it is the answer
	}
	return "", nil
}

// ask sends a request and gives the status; what else the answer says is nobody's business. It follows no redirects: a
// token goes where it was meant to, and a page that is elsewhere is not that page.
func ask(req *http.Request) (int, error) {
	client := &http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(req)
	if cause, ok := errors.AsType[*url.Error](err); ok {
		err = cause.Err // without the URL, and all that is in it
	}
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	return answer.StatusCode, answer.Body.Close()
}

// answered is why a status is not 2xx.
func answered(status int) error {
	if status >= 200 && status < 300 {
		return nil
	}
	return fmt.Errorf("it answered %d %s", status, http.StatusText(status))
}
