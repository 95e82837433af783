package maintenance

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVisit(t *testing.T) {
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tries++
		switch r.URL.Path {
		case "/warming":
			if tries == 1 {
				w.WriteHeader(http.StatusBadGateway)
			}
		case "/pass":
			if c, err := r.Cookie("laravel_maintenance"); err != nil || c.Value != "x" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{"/": "", "/warming": "", "/pass": "", "/moved": "it answered 302 Found", "/gone": "it answered 404 Not Found"} {
		tries = 0
		why, err := Visit(t.Context(), server.URL+path, &http.Cookie{Name: "laravel_maintenance", Value: "x"})
		require.NoError(t, err)
		require.Equal(t, want, why, path)
	}
	server.Close()
	why, err := Visit(t.Context(), server.URL+"/?key=hunter2", nil)
	require.NoError(t, err)
	require.Contains(t, why, "connection refused")
	require.NotContains(t, why, "hunter2")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Visit(cancelled, server.URL, nil)
	require.ErrorIs(t, err, context.Canceled)
}
