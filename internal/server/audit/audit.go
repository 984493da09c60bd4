// Package audit writes a server's audit log: a line of JSON for each request that the server answered or refused.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/server/ratelimit"
)

// Entry is a line of the audit log. Fields that do not apply to a request stay empty.
type Entry struct {
	Time      time.Time `json:"time"` // when the request ended
	RequestID string    `json:"request_id"`
	User      string    `json:"user,omitempty"`
	Host      string    `json:"host,omitempty"`
	Operation string    `json:"operation"`
	Namespace string    `json:"namespace,omitempty"`
	Bucket    string    `json:"bucket,omitempty"`
	Tables    []string  `json:"tables,omitempty"`
	SQL       string    `json:"sql,omitempty"`
	Rows      int64     `json:"rows,omitempty"`
	Keys      int64     `json:"keys,omitempty"`
	Received  int64     `json:"received,omitempty"` // bytes
	Sent      int64     `json:"sent,omitempty"`     // bytes
	Seconds   float64   `json:"seconds"`
	Outcome   string    `json:"outcome"` // one of the constants below
	Code      string    `json:"code,omitempty"`
	Error     string    `json:"error,omitempty"`
	LeftOut   int64     `json:"left_out_before,omitempty"` // earlier requests that were not logged, because their hosts sent too many invalid or unauthenticated ones
}

// The outcomes of requests.
const (
	OK         = "ok"
	Failed     = "failed"
	Denied     = "denied"     // the server does not know the user, or the user lacks the right
	Unanswered = "unanswered" // the connection ended first
)

// Recorder writes the lines of a server's audit log.
type Recorder struct {
	Out io.Writer // must not block, and must report its own errors; nil means no audit log

	limiter ratelimit.Logins
	leftOut atomic.Int64 // number of requests since the last line that were not logged
}

// Record writes the line of a request that began at start and ends now. It removes a port from e.Host. isLimited must be
// true for requests of strangers and for invalid requests, which may have few bytes. If the peer makes too many such
// requests, Record leaves lines out, so that they cannot fill the disk.
func (r *Recorder) Record(e Entry, start time.Time, peer string, isLimited bool) {
	if isLimited {
		if !r.limiter.MayTry(peer, "") {
			r.leftOut.Add(1)
			return
		}
		r.limiter.RecordFailure(peer)
	}
	if host, _, err := net.SplitHostPort(e.Host); err == nil {
		e.Host = host
	}
	e.Time, e.Seconds, e.LeftOut = time.Now().UTC(), time.Since(start).Seconds(), r.leftOut.Swap(0)
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // a programming error: every field can be encoded
	}
	_, _ = r.Out.Write(append(line, '\n')) // Out logs its own errors
}

const (
	maxQueue     = 4096     // maximum number of lines waiting to be written
	maxBatch     = 64 << 10 // number of bytes at which write adds no more lines to a batch
	closeTimeout = time.Second
)

// Log is an audit log that writes lines in the background, so that requests never wait for the disk. If lines are lost,
// the server's log says so.
type Log struct {
	name       string // "-" means standard error
	out        io.Writer
	log        *slog.Logger
	lines      chan []byte
	quit, done chan struct{}
	reopen     atomic.Bool
	lost       atomic.Int64
	torn       bool // the file ends with an incomplete line
}

// Open opens an audit log. The name "-" means stderr.
func Open(name string, stderr io.Writer, log *slog.Logger) (*Log, error) {
	l := &Log{name: name, out: stderr, log: log, lines: make(chan []byte, maxQueue), quit: make(chan struct{}), done: make(chan struct{})}
	if name != "-" {
		f, err := openFile(name)
		if err != nil {
			return nil, err
		}
		l.out = f
	}
	l.torn = name != "-" && endsTorn(name)
	go l.run()
	return l, nil
}

// endsTorn reports whether a file ends with an incomplete line, because its disk was full or a process was killed.
func endsTorn(name string) bool {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 { // opening a named pipe would block
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}

// openFile opens the file. If it is a named pipe without a reader, openFile fails instead of blocking.
func openFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o600)
}

// Write queues a line, or discards it if too many lines are waiting. It never fails.
func (l *Log) Write(line []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(line):
	default:
		if l.lost.Add(1) == 1 { // not in this goroutine, because the server's log may block as well
			go l.log.Error("the audit log is not written fast enough: lines are being lost", "file", l.name)
		}
	}
	return len(line), nil
}

// Reopen makes the log open its file again before the next line, for programs that rename the file and expect a new one.
func (l *Log) Reopen() { l.reopen.Store(true) }

// Close writes the waiting lines. It returns an error if that takes too long.
func (l *Log) Close() error {
	close(l.quit)
	select {
	case <-l.done:
		return nil
	case <-time.After(closeTimeout):
		return errors.New("the last lines of the audit log were not written in time: " + l.name)
	}
}

func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case line := <-l.lines:
			l.write(line)
		case <-l.quit:
			for len(l.lines) > 0 {
				l.write(<-l.lines)
			}
			if f, ok := l.out.(*os.File); ok && l.name != "-" {
				l.closeFile(f)
			}
			return
		}
	}
}

// closeFile closes a file of the log. Some file systems, such as NFS, report only at this point that
// they could not write the lines.
func (l *Log) closeFile(f *os.File) {
	if err := f.Close(); err != nil {
		l.log.Error("closing a file of the audit log failed: its last lines may be missing", "error", err)
	}
}

// write writes a line, along with other waiting lines.
func (l *Log) write(line []byte) {
	batch := line
	for len(l.lines) > 0 && len(batch) < maxBatch {
		batch = append(batch, <-l.lines...)
	}
	if old, ok := l.out.(*os.File); l.reopen.Swap(false) && ok && l.name != "-" {
		if f, err := openFile(l.name); err != nil {
			l.log.Error("cannot reopen the audit log: the previous file stays in use", "error", err)
		} else {
			l.closeFile(old)
			l.out, l.torn = f, endsTorn(l.name)
		}
	}
	n, err := 0, error(nil)
	if l.torn {
		_, err = l.out.Write([]byte{'\n'})
	}
	if err == nil {
		n, err = l.out.Write(batch)
		l.torn = n > 0 && batch[n-1] != '\n'
	}
	if lost := l.lost.Swap(0) + int64(bytes.Count(batch[n:], []byte{'\n'})); lost > 0 {
		l.log.Error("requests are missing from the audit log, because it cannot be written or is too slow", "lost", lost, "error", err)
	}
}
