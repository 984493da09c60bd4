package frame_test

import (
	"testing"

	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/storetest"
)

func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{"Error": new(frame.Error)}, "Unwrap")
	storetest.CheckErrors(t, map[string]func() error{
		"Read(nil)": func() error { return storetest.FirstError(frame.Read(nil, 0)) },
	})
	for content, err := range frame.Split(nil) {
		t.Errorf("Split(nil) yielded %q, %v, want nothing", content, err)
	}
	if b := frame.End(frame.Begin(nil), 0); len(b) != frame.HeaderLen {
		t.Errorf("an empty frame has %d bytes, want %d", len(b), frame.HeaderLen)
	}
}
