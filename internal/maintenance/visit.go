package maintenance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "this is not a URL", nil //nolint:nilerr // it is the answer
	}
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
