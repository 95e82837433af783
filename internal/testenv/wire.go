package testenv

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Wire is the way to a server: what a client sends and gets passes through it, and is cut or held up as a Break says.
type Wire struct {
	// Address is the host and port that it listens on, the same after Down and Up.
	Address string

	backend  string
	mu       sync.Mutex
	listener net.Listener
	open     map[*crossing]bool
	now      *Break
	fired    int
}

// Break is what happens to connections.
type Break struct {
	// When is what a client must send before it happens to its connection; empty: it happens to all.
	When string
	// After is how many bytes, in both directions, pass between that and the break.
	After int
	// Stall ends no connection: no byte moves any more, and nobody is told. Not even the kernel answers the client.
	Stall bool
	// Lose lets what was sent through to the server, and cuts instead of the answer.
	Lose bool
	// Do breaks nothing: it is called before what the client sends is passed on.
	Do func()
	// Times is how often it happens at most; 0: until it is mended.
	Times int
}

// NewWire returns a way to the server at an address. It is gone when the test ends.
func NewWire(t testing.TB, backend string) *Wire {
	t.Helper()
	w := &Wire{backend: backend, open: map[*crossing]bool{}}
	w.Up(t)
	t.Cleanup(w.Down)
	return w
}

// listenAgain listens where it did before, or anywhere the first time.
func listenAgain(t testing.TB, address string) net.Listener {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// Up listens, again on the same port.
func (w *Wire) Up(t testing.TB) {
	t.Helper()
	listener := listenAgain(t, w.Address)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener, w.Address = listener, listener.Addr().String()
	go func() { // until it is down
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go w.cross(client)
		}
	}()
}

// Down refuses every connection, and cuts those that are open.
func (w *Wire) Down() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.listener.Close()
	for c := range w.open {
		w.fired++
		c.cut()
	}
}

// Begin breaks connections from now on, those that are open too.
func (w *Wire) Begin(b Break) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.fired = &b, 0
}

// Mend breaks nothing any more. What is broken stays so.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = nil
}

// Fired counts the connections that were broken since Begin. A test whose fault never happened proves nothing.
func (w *Wire) Fired() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fired
}

// crossing is one connection.
type crossing struct {
	w              *Wire
	client, server net.Conn
	gone           chan struct{}
	once           sync.Once

	// of w.mu
	sent     []byte // the end of what the client has sent
	begun    bool   // When was seen
	passed   int    // bytes since
	broken   bool
	stalling bool
}

func (w *Wire) cross(client net.Conn) {
	server, err := net.Dial("tcp", w.backend)
	if err != nil {
		reset(client)
		return
	}
	c := &crossing{w: w, client: client, server: server, gone: make(chan struct{})}
	w.mu.Lock()
	w.open[c] = true
	w.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { c.pass(client, server, true) })
	both.Go(func() { c.pass(server, client, false) })
	both.Wait()
	w.mu.Lock()
	delete(w.open, c)
	w.mu.Unlock()
}

// cut ends both halves without a goodbye.
func (c *crossing) cut() {
	c.once.Do(func() {
		close(c.gone)
		reset(c.client)
		reset(c.server)
	})
}

// reset ends a connection without a goodbye.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (c *crossing) pass(from, to net.Conn, up bool) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			broken, stalls, do := c.look(buffer[:n], up)
			if do != nil {
				do()
			}
			if stalls {
				silence(c.client)
				<-c.gone // the peers keep their connections, and hear nothing
				return
			}
			if broken {
				break
			}
			_, werr := to.Write(buffer[:n])
			if err == nil {
				err = werr
			}
		}
		if err != nil {
			break
		}
	}
	c.w.mu.Lock()
	stalls := c.stalling
	c.w.mu.Unlock()
	if !stalls || up { // a client that hangs up ends a stall, where it is heard
		c.cut()
	}
}

// silence has the kernel drop all that comes to a connection, unread and unanswered, as if the way to it were lost.
func silence(conn net.Conn) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return // it is closed
	}
	nothing := &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: nothing})
	})
}

// look tells what is to become of some bytes.
func (c *crossing) look(chunk []byte, up bool) (broken, stalls bool, do func()) {
	w := c.w
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.now
	if c.broken || b == nil {
		return c.broken, c.stalling, nil
	}
	if !c.begun {
		c.begun = b.When == ""
		if up && !c.begun {
			c.sent = append(c.sent, chunk...)
			c.begun = bytes.Contains(c.sent, []byte(b.When))
			c.sent = bytes.Clone(c.sent[max(0, len(c.sent)-len(b.When)):])
		}
		if !c.begun || b.Lose && up {
			return false, false, nil
		}
	}
	if c.passed += len(chunk); b.Lose && up || b.After > 0 && c.passed <= b.After {
		return false, false, nil
	}
	if w.fired++; w.fired == b.Times {
		w.now = nil
	}
	if b.Do != nil {
		c.begun, c.passed, c.sent = false, 0, nil
		return false, false, b.Do
	}
	c.broken, c.stalling = true, b.Stall
	return c.broken, c.stalling, nil
}
