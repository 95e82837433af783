package standalone

import (
	"os"
	"strings"
	"sync"
)

// logFile takes what a child prints: into a file of bounded size, with one older file beside it. It never fails and
// never makes its writer wait for a person: a full disk must not stop the child.
type logFile struct {
	path string
	most int64 // bytes, before the file becomes the older one

	mu   sync.Mutex
	file *os.File
	size int64
	tail []byte // the last bytes, for messages
}

const (
	mostLog  = 16 << 20
	mostTail = 4 << 10
)

func openLog(path string, most int64) *logFile {
	l := &logFile{path: path, most: most}
	l.open()
	return l
}

// open leaves file nil where it cannot; the tail is kept all the same.
func (l *logFile) open() {
	l.file, l.size = nil, 0
	if file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err == nil {
		l.file = file
		if info, err := file.Stat(); err == nil {
			l.size = info.Size()
		}
	}
}

// Write implements io.Writer; it always takes everything.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p...)
	l.tail = l.tail[max(0, len(l.tail)-mostTail):]
	if l.size+int64(len(p)) > l.most {
		l.turn()
	}
	if l.file != nil {
		n, _ := l.file.Write(p) // a full disk loses lines of the log, nothing else
		l.size += int64(n)
	}
	return len(p), nil
}

// turn makes the file the older one and begins a new one.
func (l *logFile) turn() {
	if l.file != nil {
		_ = l.file.Close()
	}
	_ = os.Rename(l.path, l.path+".1")
	l.open()
}

// forget empties the tail, so that it only tells of the next start.
func (l *logFile) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = nil
}

// last gives the last lines that were written, at most n, oldest first.
func (l *logFile) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for line := range strings.SplitSeq(strings.ToValidUTF8(string(l.tail), ""), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}
