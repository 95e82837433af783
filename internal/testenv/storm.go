package testenv

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Storm is a storage with faults: a proxy before a real one, which does to each request what its weather says.
type Storm struct {
	// Address is the host and port that it listens on, the same after Down and Up.
	Address string
	// Pass hands a request on, whatever the weather.
	Pass http.Handler

	weather  atomic.Pointer[Weather]
	fired    atomic.Int64
	requests atomic.Int64 // since it began

	mu     sync.Mutex
	server *http.Server
}

// Weather looks at a request, the nth since it began. Nil lets it pass.
type Weather func(n int64, r *http.Request) Fault

// A Fault takes the place of passing a request on.
type Fault func(s *Storm, w http.ResponseWriter, r *http.Request)

// NewStorm returns a calm one before the storage at an address. It is gone when the test ends.
func NewStorm(t testing.TB, backend string) *Storm {
	t.Helper()
	s := &Storm{}
	s.Pass = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: backend})
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			hangUp(w)
		},
	}
	s.Up(t)
	t.Cleanup(s.Down)
	return s
}

// Up listens, again on the same port.
func (s *Storm) Up(t testing.TB) {
	t.Helper()
	listener := listenAgain(t, s.Address)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Address = listener.Addr().String()
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if now := s.weather.Load(); now != nil {
			if f := (*now)(s.requests.Add(1), r); f != nil {
				s.fired.Add(1)
				f(s, w, r)
				return
			}
		}
		s.Pass.ServeHTTP(w, r)
	})}
	go func() { _ = s.server.Serve(listener) }() // until it is down
}

// Down refuses every connection, and cuts those that are open.
func (s *Storm) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.server.Close()
}

// Begin sets the weather; nil is calm.
func (s *Storm) Begin(now Weather) {
	s.fired.Store(0)
	s.requests.Store(0)
	s.weather.Store(&now)
	if now == nil {
		s.weather.Store(nil)
	}
}

// Fired counts what the weather did since it began. A test whose fault never happened proves nothing.
func (s *Storm) Fired() int64 { return s.fired.Load() }

// Always does the same to every request with one of the methods, or to all.
func Always(f Fault, methods ...string) Weather {
	return func(_ int64, r *http.Request) Fault {
		for _, m := range methods {
			if m == r.Method {
				return f
			}
		}
		if len(methods) > 0 {
			return nil
		}
		return f
	}
}

// Every does it to each nth request with one of the methods.
func Every(n int64, f Fault, methods ...string) Weather {
	var met atomic.Int64
	all := Always(f, methods...)
	return func(_ int64, r *http.Request) Fault {
		if g := all(0, r); g != nil && met.Add(1)%n == 0 {
			return g
		}
		return nil
	}
}

// First does it to the first n requests.
func First(n int64, f Fault) Weather {
	return func(nth int64, _ *http.Request) Fault {
		if nth <= n {
			return f
		}
		return nil
	}
}

// Answer is what a storage says when it refuses.
func Answer(status int, code string) Fault {
	return func(_ *Storm, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>as it was planned</Message></Error>`, code)
		}
	}
}

// Stall takes the request and never says a byte.
func Stall(_ *Storm, _ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// Cut passes some bytes, of the request or else of its answer, and resets the connection.
func Cut(s *Storm, w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		hangUp(w)
		return
	}
	s.Pass.ServeHTTP(&cutWriter{ResponseWriter: w, left: 50}, r)
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// Reset ends the connection before anything of the request is passed on.
func Reset(_ *Storm, w http.ResponseWriter, _ *http.Request) { hangUp(w) }

// Lose does what it is asked for and loses the answer.
func Lose(s *Storm, w http.ResponseWriter, r *http.Request) {
	s.Pass.ServeHTTP(nowhere{}, r)
	hangUp(w)
}

type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// hangUp ends a connection without a goodbye.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	reset(conn)
}

// Skewed passes the request on as if it had been made an hour ago.
func Skewed(s *Storm, w http.ResponseWriter, r *http.Request) {
	r.Header.Set("X-Amz-Date", "20200101T000000Z")
	s.Pass.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
}
