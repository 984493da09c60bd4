package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestLongestStays checks the program's output against a computation with a map in memory. It runs the whole program
// if PARTD_ALL_LAYERS is set, and otherwise a part of its events.
func TestLongestStays(t *testing.T) {
	count := 100_000
	if os.Getenv("PARTD_ALL_LAYERS") != "" {
		count = 2_400_000
	}
	type stay struct {
		first, last time.Time
		events      int
	}
	stays := map[string]*stay{}
	inputBytes := 0
	for e := range events(count) {
		inputBytes += len(e.User) + len(e.Page) + 24 // for a time.Time
		if stays[e.User] == nil {
			stays[e.User] = &stay{first: e.At}
		}
		s := stays[e.User]
		s.last, s.events = e.At, s.events+1
	}
	if count == 2_400_000 && inputBytes < 200e6 {
		t.Errorf("the input has %d bytes, want at least 200 MB", inputBytes)
	}
	var out bytes.Buffer
	if err := run(t.Context(), &out, events(count)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if want := fmt.Sprint(len(stays), " users; the longest stays:"); lines[0] != want || len(lines) != 4 {
		t.Fatalf("run printed %q, want four lines, the first %q", lines, want)
	}
	for _, line := range lines[1:] {
		user, _, _ := strings.Cut(line, " ")
		s := stays[user]
		if s == nil || line != fmt.Sprint(user, " ", s.events, " ", s.last.Sub(s.first)) {
			t.Errorf("run printed %q, but the map has %+v", line, s)
		}
		for other, o := range stays {
			if o.last.Sub(o.first) > s.last.Sub(s.first) && !strings.Contains(out.String(), other) {
				t.Errorf("run printed %[2]s, but not %[1]s, who stayed longer", other, user)
			}
		}
	}
}

// TestInputError checks that run returns the error of its input and prints nothing.
func TestInputError(t *testing.T) {
	broken := errors.New("the line was cut")
	in := func(yield func(Event, error) bool) { yield(Event{}, broken) }
	var out bytes.Buffer
	if err := run(t.Context(), &out, in); !errors.Is(err, broken) || out.Len() > 0 {
		t.Errorf("run = %v and printed %q, want the error of the input and no output", err, &out)
	}
}
