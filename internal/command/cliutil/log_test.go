package cliutil

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWarningsAreLimited checks that the log limits and counts floods of warnings and errors. It does not limit
// messages of lower levels.
func TestWarningsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := NewLog("text", &out)
		connection := log.With("peer", 1)
		for range 5000 {
			log.Warn("flood")
			connection.Warn("flood")
		}
		log.Error("an error")
		log.Info("a word")
		if n := strings.Count(out.String(), "flood"); n != maxBurst {
			t.Errorf("%d of 10,000 warnings in a row were logged, want %d", n, maxBurst)
		}
		for _, words := range []string{"an error", "a word"} {
			if !strings.Contains(out.String(), words) {
				t.Errorf("%q was dropped", words)
			}
		}
		for range 5000 {
			log.Error("no space")
		}
		if n := strings.Count(out.String(), "no space"); n != maxBurst-1 {
			t.Errorf("%d of 5,000 errors in a row were logged, want %d", n, maxBurst-1)
		}
		out.Reset()
		time.Sleep(time.Second)
		for range 100 {
			connection.Warn("flood")
		}
		if n := strings.Count(out.String(), "flood"); n != perSecond {
			t.Errorf("%d warnings were logged a second later, want %d", n, perSecond)
		}
		if first, _, _ := strings.Cut(out.String(), "\n"); !strings.Contains(first, "warnings_left_out_before=9900") {
			t.Errorf("the first warning does not say how many were dropped: %s", first)
		}
	})
}
