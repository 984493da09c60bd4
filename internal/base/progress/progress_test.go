package progress

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestLine(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		elapsed     time.Duration
		want        string
	}{
		{50e6, 200e6, time.Second, " 25 %  50.0 MB of 200.0 MB  50 MB/s  3s left"},
		{0, 200e6, time.Second, "  0 %  0.0 MB of 200.0 MB  0.0 MB/s"},
		{200e6, 200e6, 4 * time.Second, "100 %  200.0 MB of 200.0 MB  50 MB/s"},
		{1e6, -1, 2 * time.Second, "1.0 MB  0.5 MB/s"},
		{9e9, 10e9, 100 * time.Second, " 90 %  9000.0 MB of 10000.0 MB  90 MB/s  11s left"},
		{1, 0, 0, "0.0 MB  1000 MB/s"},
	} {
		if got := Line(c.done, c.total, c.elapsed); got != c.want {
			t.Errorf("Line(%d, %d, %v)\n got %q\nwant %q", c.done, c.total, c.elapsed, got, c.want)
		}
	}
}

func TestBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out procs.Output
		bar := Start(&out, true)
		time.Sleep(interval*2 + 1) // nothing to show yet
		bar.Count(100e6, func() int64 { return 50e6 })
		time.Sleep(interval * 2)
		bar.Wait("dropping", nil)
		time.Sleep(interval * 4)
		bar.Wait("writing", func() int64 { return 2e6 })
		time.Sleep(interval)
		bar.Stop()
		bar.Stop()
		text := out.String()
		for label, want := range map[string]int{"50 %": 2, "\rdropping, ": 4, "\rdropping, 1s\x1b[K": 2, "writing, 2.0 MB still to write, 0s": 1} {
			if n := strings.Count(text, label); n != want {
				t.Errorf("%q appears %d times, want %d: %q", label, n, want, text)
			}
		}
		if !strings.HasSuffix(text, "\r\x1b[K") {
			t.Errorf("the output %q does not end by clearing the line", text)
		}
	})
}

// TestBarSilent checks that short work, and a bar that is not shown, write nothing.
func TestBarSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out procs.Output
		hidden, short := Start(&out, false), Start(&out, true)
		hidden.Wait("hidden", nil)
		short.Wait("short", nil)
		short.Stop()
		time.Sleep(time.Hour)
		hidden.Stop()
		if out.String() != "" {
			t.Errorf("got the output %q, want none", out.String())
		}
	})
	if IsTerminal(&bytes.Buffer{}) {
		t.Error("IsTerminal reports that a buffer is a terminal")
	}
}
