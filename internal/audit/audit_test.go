package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func entry(id string) []byte { return (&Entry{RequestID: id, Operation: "get", Outcome: OK}).Line() }

func TestReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	l, err := Open(file, io.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	write := func(id, into string) {
		t.Helper()
		_, _ = l.Write(entry(id))
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			text, err := os.ReadFile(into)
			if err == nil && strings.Contains(string(text), id) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is %q, want a line with %s", into, text, id)
			}
		}
	}
	write("first", file)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	write("second", file+".1")
	l.Reopen()
	write("third", file)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the file's mode is %v, %v, want none of it for others", info.Mode(), err)
	}
}

// flaky is a disk that is full after a part of a line, and later has space again.
type flaky struct {
	buffer
	full bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.full {
		_, _ = f.buffer.Write(p[:len(p)/2])
		return len(p) / 2, errors.New("no space left")
	}
	return f.buffer.Write(p)
}

// TestErrors checks that an error is reported, and that the lines after it are whole.
func TestErrors(t *testing.T) {
	out, report := &flaky{full: true}, &buffer{}
	l, err := Open("-", out, slog.New(slog.NewTextHandler(report, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = l.Write(entry("lost"))
	for !strings.Contains(report.String(), "no space left") {
		time.Sleep(time.Millisecond)
	}
	out.full = false
	_, _ = l.Write(entry("written"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var e Entry
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || e.RequestID != "written" {
		t.Errorf("the last line after an error is %q, %v, want a whole line", lines[len(lines)-1], err)
	}
	if !strings.Contains(report.String(), "lost=1") {
		t.Errorf("the log says %q, want the number of lost lines", report)
	}
}

// TestBlocked checks that writers do not wait for a reader of the log that has stopped, and that the log says how many
// lines were lost.
func TestBlocked(t *testing.T) {
	r, w := io.Pipe()
	report := &buffer{}
	l, err := Open("-", w, slog.New(slog.NewTextHandler(report, nil)))
	if err != nil {
		t.Fatal(err)
	}
	const lines = 10 * maxQueue
	start := time.Now()
	for range lines {
		_, _ = l.Write(entry("x"))
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("%d lines took %v although nobody reads them", lines, d)
	}
	if !strings.Contains(report.String(), "not written fast enough") {
		t.Errorf("the log says %q, want that lines are lost", report)
	}
	if err := l.Close(); err == nil {
		t.Error("Close succeeded although lines could not be written")
	}
	read := 0
	scan := bufio.NewScanner(r)
	go func() { <-l.done; _ = w.Close() }()
	for scan.Scan() {
		read++
	}
	if read < maxQueue || read > maxQueue+maxBatch {
		t.Errorf("%d lines were written later, want about %d", read, maxQueue)
	}
}
