package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/attempttest"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// forEachBucket runs a test on a directory, on a gateway, and on a gateway with a compressing layer.
// Each call of open returns a separate instance, as on another machine.
func forEachBucket(t *testing.T, run func(t *testing.T, open func() partd.Partd)) {
	t.Run("directory", func(t *testing.T) {
		d := must.Get(objstore.OpenDirectory(t.TempDir()))(t)
		run(t, func() partd.Partd {
			s := must.Get(objstore.Open(t.Context(), d, &objstore.Options{Memory: objstore.MinMemory}))(t)
			return s
		})
	})
	for _, layer := range []string{"", "zstd+"} {
		t.Run(layer+"s3", func(t *testing.T) {
			g := startGateway(t)
			run(t, func() partd.Partd { return openURL(t, layer+g.url("jobs", "")) })
		})
	}
}

func closeStore(t *testing.T, s partd.Partd) {
	t.Helper()
	if err := partd.Close(context.Background(), s); err != nil {
		t.Error(err)
	}
}

// runTask runs two alternating attempts to append entries, each with its own store, and commits the
// second attempt. A third attempt must fail, because the task has committed.
func runTask(t *testing.T, open func() partd.Partd, name string, entries []partd.Entry) {
	var writers []*shuffle.Writer
	var attempts []partd.Partd
	for attempt := range 2 {
		s := open()
		defer closeStore(t, s)
		w, err := shuffle.Begin(t.Context(), s, name, fmt.Sprint(attempt))
		if err != nil {
			t.Error(err)
			return
		}
		writers, attempts = append(writers, w), append(attempts, s)
	}
	for batch := range slices.Chunk(entries, 100) {
		for i, w := range writers {
			if err := w.Append(t.Context(), batch...); err != nil {
				t.Error(err)
			}
			if err := partd.Flush(t.Context(), attempts[i]); err != nil {
				t.Error(err)
			}
		}
	}
	for _, w := range slices.Backward(writers) { // the first attempt commits last, so it does not count
		if err := w.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := shuffle.Begin(t.Context(), attempts[0], name, "2"); !errors.Is(err, shuffle.ErrCommitted) {
		t.Errorf("Begin() of a third attempt: error = %v, want %v", err, shuffle.ErrCommitted)
	}
}

// joinLines returns n entries, which are the lines of one side of a join. TestWordCount counts their words.
func joinLines(name string, n int) (entries []partd.Entry) {
	for i := range n {
		key := fmt.Sprint("user", i*7%100)
		entries = append(entries, partd.Entry{Key: fmt.Sprint("part ", i*7%100%16), Value: fmt.Append(nil, name, " ", key, " ", i)})
	}
	return entries
}

func waitCommitted(t *testing.T, store partd.Partd, tasks int) *shuffle.Committed {
	committed := must.Get(shuffle.WaitCommitted(t.Context(), store, &shuffle.WaitOptions{Count: tasks}))(t)
	return committed
}

// TestAttempts checks that attempts work as with every other kind of store.
func TestAttempts(t *testing.T) {
	forEachBucket(t, func(t *testing.T, open func() partd.Partd) {
		s := open()
		defer closeStore(t, s)
		attempttest.Run(t, s)
	})
}

// TestWordCount counts words in tasks with several attempts, and compares the result with a direct count.
func TestWordCount(t *testing.T) {
	forEachBucket(t, func(t *testing.T, open func() partd.Partd) {
		want := map[string]int{}
		var total []partd.Entry
		for n := range 4 {
			entries := joinLines(fmt.Sprint("text", n), 300)
			total = append(total, entries...)
			t.Run(fmt.Sprint("task ", n), func(t *testing.T) { runTask(t, open, fmt.Sprint(n), entries) })
		}
		for _, e := range total {
			for _, word := range strings.Fields(string(e.Value)) {
				want[word]++
			}
		}
		store := open()
		defer closeStore(t, store)
		c := waitCommitted(t, store, 4)
		got := map[string]int{}
		var shares []shuffle.Checksum
		for part := range 3 { // three readers
			var share shuffle.Checksum
			for e, err := range c.ScanPart(t.Context(), part, 3, &share) {
				if err != nil {
					t.Fatal(err)
				}
				for _, word := range strings.Fields(string(e.Value)) {
					got[word]++
				}
			}
			shares = append(shares, share)
		}
		if err := c.Verify(shares...); err != nil || !maps.Equal(got, want) {
			t.Errorf("Verify() error = %v; counted %d words, want %d", err, len(got), len(want))
		}
		if err := c.Verify(shares[1:]...); err == nil {
			t.Error("Verify() did not detect that a part is missing")
		}
	})
}

// TestUnknownSchemeNamesProgram checks that a program without package cloud returns an error that names the program
// that supports the scheme.
func TestUnknownSchemeNamesProgram(t *testing.T) {
	if _, err := stores.Open(t.Context(), "s3://bucket/prefix"); err == nil || !strings.Contains(err.Error(), "partd-cloud") {
		t.Errorf("Open() of an s3 URL: error = %v, want one that names partd-cloud", err)
	}
}
