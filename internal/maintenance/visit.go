package maintenance

import (
	"context"
	"errors"
	"fmt"
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
	answer, err := client().Do(req)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		var cause *url.Error // it repeats the URL with all that is in it
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return err.Error(), nil
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		why = fmt.Sprintf("it answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	return why, answer.Body.Close()
}

// client follows no redirects: a token goes where it was meant to, and a page that is elsewhere is not that page.
func client() *http.Client {
	return &http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
