package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// record writes a line with an id to l.
func record(l *Log, id string) {
	(&Recorder{Out: l}).Record(Entry{RequestID: id, Operation: "get", Outcome: OK}, time.Now(), "peer", false)
}

func TestReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	must.Do(t, os.WriteFile(file, []byte(`{"torn":`), 0o600))
	l := must.Get(Open(file, io.Discard, slog.New(slog.DiscardHandler)))(t)
	write := func(id, into string) {
		t.Helper()
		record(l, id)
		must.Eventually(t, 10*time.Second, into+" has no line with "+id, func() bool {
			text, err := os.ReadFile(into)
			return err == nil && strings.Contains(string(text), `"request_id":"`+id)
		})
	}
	write("first", file)
	must.Do(t, os.Rename(file, file+".1"))
	write("second", file+".1")
	must.Do(t, os.WriteFile(file, []byte("torn"), 0o600))
	l.Reopen()
	write("third", file)
	must.Do(t, l.Close())
	for name, want := range map[string]string{file + ".1": "first second ", file: "third "} {
		text := must.Get(os.ReadFile(name))(t)
		got := ""
		for line := range strings.Lines(string(text)) {
			var e Entry
			if json.Unmarshal([]byte(line), &e) == nil {
				got += e.RequestID + " "
			}
		}
		if got != want {
			t.Errorf("after an incomplete line, %s has lines for the requests %q, want %q", name, got, want)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the file's mode is %v, %v, want none of it for others", info.Mode(), err)
	}
}

// TestCloseFails checks that the server's log reports a file that cannot be closed, because some file systems report
// only then that they could not write.
func TestCloseFails(t *testing.T) {
	var log procs.Output
	l := must.Get(Open(filepath.Join(t.TempDir(), "audit"), io.Discard, slog.New(slog.NewTextHandler(&log, nil))))(t)
	must.Do(t, l.out.(*os.File).Close()) // so that closing it again fails
	must.Do(t, l.Close())
	if text := log.String(); !strings.Contains(text, "closing a file of the audit log failed") {
		t.Errorf("the server's log is %q, want the failed Close", text)
	}
}

// TestUnreadPipe checks that a server does not wait for a reader of its log when it starts.
func TestUnreadPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "audit")
	if err := exec.Command("mkfifo", pipe).Run(); err != nil {
		t.Skip("no named pipes:", err)
	}
	if _, err := Open(pipe, io.Discard, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Open accepts a pipe that nobody reads")
	}
}

// flaky is a disk that is full after a part of a line, and later has space again.
type flaky struct {
	procs.Output
	full bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.full {
		_, _ = f.Output.Write(p[:len(p)/2])
		return len(p) / 2, errors.New("no space left")
	}
	return f.Output.Write(p)
}

// TestErrors checks that an error is reported, and that the lines after it are whole.
func TestErrors(t *testing.T) {
	out, report := &flaky{full: true}, &procs.Output{}
	l := must.Get(Open("-", out, slog.New(slog.NewTextHandler(report, nil))))(t)
	record(l, "lost")
	for !strings.Contains(report.String(), "no space left") {
		time.Sleep(time.Millisecond)
	}
	out.full = false
	record(l, "written")
	must.Do(t, l.Close())
	var e Entry
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || e.RequestID != "written" {
		t.Errorf("the last line after an error is %q, %v, want a whole line", lines[len(lines)-1], err)
	}
	if !strings.Contains(report.String(), "lost=1") {
		t.Errorf("the log says %q, want the number of lost lines", report)
	}
}

// TestStrangers checks that strangers' requests have few lines, and that the next line counts the others.
func TestStrangers(t *testing.T) {
	var out procs.Output
	r := &Recorder{Out: &out}
	for range 1000 {
		r.Record(Entry{RequestID: "1", Host: "[::1]:80", Outcome: Denied}, time.Now(), "::", true)
	}
	r.Record(Entry{RequestID: "2", Outcome: OK}, time.Now(), "::", false)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var e Entry
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || e.RequestID != "2" || len(lines) > 100 || int(e.LeftOut) != 1001-len(lines) {
		t.Errorf("1000 requests of a stranger have %d lines, and the next line is %+v, %v", len(lines)-1, e, err)
	}
	if !strings.Contains(lines[0], `"host":"::1"`) {
		t.Errorf("the line %s has no host without a port", lines[0])
	}
}

// TestBlocked checks that writers do not wait for a reader of the log that has stopped, and that the log says how many
// lines were lost.
func TestBlocked(t *testing.T) {
	r, w := io.Pipe()
	report := &procs.Output{}
	l := must.Get(Open("-", w, slog.New(slog.NewTextHandler(report, nil))))(t)
	const lines = 10 * maxQueue
	start := time.Now()
	for range lines {
		record(l, "x")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("%d lines took %v although nobody reads them", lines, d)
	}
	for !strings.Contains(report.String(), "not written fast enough") {
		time.Sleep(time.Millisecond)
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
