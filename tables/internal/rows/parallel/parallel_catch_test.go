package parallel

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// TestEachReturnsPanics checks that Each returns the panics of a worker and of the items as errors.
func TestEachReturnsPanics(t *testing.T) {
	panicking := func(yield func(int) bool) {
		if yield(1) {
			panic("no more items")
		}
	}
	for want, items := range map[string]iter.Seq[int]{"item 2": slices.Values([]int{1, 2, 3}), "no more items": panicking} {
		err := Each(t.Context(), items, 2, func(_ context.Context, i int) error {
			if i == 2 {
				panic("item 2")
			}
			return nil
		})
		p, ok := errors.AsType[*Panic](err)
		if !ok || p.Value != want || !strings.Contains(string(p.Stack), "catch_test.go") {
			t.Errorf("Each returned %v, want a Panic with %q and a stack", err, want)
		}
	}
}

// TestLogError checks that the stack of a panic is logged.
func TestLogError(t *testing.T) {
	for _, c := range []struct {
		err      error
		hasStack bool
	}{{errors.New("plain"), false}, {Catch(func() error { panic("fault") }), true}} {
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).LogAttrs(t.Context(), slog.LevelWarn, "failed", LogError(c.err))
		if line := out.String(); !strings.Contains(line, "err=") || strings.Contains(line, "stack=") != c.hasStack {
			t.Errorf("the log line of %v is %s", c.err, line)
		}
	}
}

// TestReason checks that the text of a panic names no error of Go's runtime.
func TestReason(t *testing.T) {
	for want, f := range map[string]func(){
		"contradict":  func() { _ = make([]int, 1)[len(t.Name())] },
		"the library": func() { panic("the library") },
	} {
		err := Catch(func() error { f(); return nil })
		if p, ok := errors.AsType[*Panic](err); !ok || !strings.Contains(Reason(p.Value), want) || strings.Contains(Reason(p.Value), "runtime") {
			t.Errorf("the reason of %v is not %q", err, want)
		}
	}
}
