package repository

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// storm is a storage with faults: a proxy before a real one, which does to each request what its weather says.
type storm struct {
	address  string
	pass     http.Handler
	weather  atomic.Pointer[weather]
	fired    atomic.Int64
	requests atomic.Int64 // since it began

	mu     sync.Mutex
	server *http.Server
}

// weather looks at a request, the nth since it began. Nil lets it pass.
type weather func(n int64, r *http.Request) fault

// A fault takes the place of passing a request on.
type fault func(s *storm, w http.ResponseWriter, r *http.Request)

func newStorm(t *testing.T, backend string) *storm {
	t.Helper()
	s := &storm{}
	s.pass = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: backend})
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			reset(w)
		},
	}
	s.up(t)
	t.Cleanup(s.down)
	return s
}

// up listens, again on the same port.
func (s *storm) up(t *testing.T) {
	t.Helper()
	address := s.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address = listener.Addr().String()
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if now := s.weather.Load(); now != nil {
			if f := (*now)(s.requests.Add(1), r); f != nil {
				s.fired.Add(1)
				f(s, w, r)
				return
			}
		}
		s.pass.ServeHTTP(w, r)
	})}
	go func() { _ = s.server.Serve(listener) }() // until it is down
}

// down refuses every connection, and cuts those that are open.
func (s *storm) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.server.Close()
}

// begin sets the weather; nil is calm.
func (s *storm) begin(now weather) {
	s.fired.Store(0)
	s.requests.Store(0)
	s.weather.Store(&now)
	if now == nil {
		s.weather.Store(nil)
	}
}

// always does the same to every request with one of the methods, or to all.
func always(f fault, methods ...string) weather {
	return func(_ int64, r *http.Request) fault {
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

// every does it to each nth request with one of the methods.
func every(n int64, f fault, methods ...string) weather {
	var met atomic.Int64
	all := always(f, methods...)
	return func(_ int64, r *http.Request) fault {
		if g := all(0, r); g != nil && met.Add(1)%n == 0 {
			return g
		}
		return nil
	}
}

// answer is what a storage says when it refuses.
func answer(status int, code string) fault {
	return func(_ *storm, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>as it was planned</Message></Error>`, code)
		}
	}
}

// stall takes the request and never says a byte.
func stall(_ *storm, _ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// cut passes some bytes, of the request or else of its answer, and resets the connection.
func cut(s *storm, w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		reset(w)
		return
	}
	s.pass.ServeHTTP(&cutWriter{ResponseWriter: w, left: 50}, r)
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

// lose does what it is asked for and loses the answer.
func lose(s *storm, w http.ResponseWriter, r *http.Request) {
	s.pass.ServeHTTP(nowhere{}, r)
	reset(w)
}

type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// reset ends a connection without a goodbye.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// skewed passes the request on as if it had been made an hour ago.
func skewed(s *storm, w http.ResponseWriter, r *http.Request) {
	r.Header.Set("X-Amz-Date", "20200101T000000Z")
	s.pass.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
}
