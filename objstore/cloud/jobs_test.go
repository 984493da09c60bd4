package cloud

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/attempttest"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// everyBucket runs a test over a gateway, also through a compressing layer, and over a
// directory. Each call of open returns a separate instance, as on another machine.
func everyBucket(t *testing.T, run func(t *testing.T, open func() partd.Partd)) {
	t.Run("directory", func(t *testing.T) {
		d, err := objstore.OpenDirectory(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		run(t, func() partd.Partd {
			s, err := objstore.Open(t.Context(), d, &objstore.Options{Memory: objstore.MinMemory})
			if err != nil {
				t.Fatal(err)
			}
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

// task runs two alternating attempts at appending entries, each through its own store.
// The second one is committed. A third attempt starts too late.
func task(t *testing.T, open func() partd.Partd, name string, entries []partd.Entry) {
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
	for _, w := range slices.Backward(writers) { // the first one is too late
		if err := w.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := shuffle.Begin(t.Context(), attempts[0], name, "2"); !errors.Is(err, shuffle.ErrCommitted) {
		t.Errorf("a third attempt: %v", err)
	}
}

// side returns the lines of one file for a join, and the texts of words.
func side(name string, n int) (entries []partd.Entry) {
	for i := range n {
		key := fmt.Sprint("user", i*7%100)
		entries = append(entries, partd.Entry{Key: fmt.Sprint("part ", i*7%100%16), Value: fmt.Append(nil, name, " ", key, " ", i)})
	}
	return entries
}

func committedOf(t *testing.T, store partd.Partd, tasks int) *shuffle.Committed {
	c, err := shuffle.WaitCommitted(t.Context(), store, &shuffle.WaitOptions{Count: tasks})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Attempts must work as with every other kind of store.
func TestAttempts(t *testing.T) {
	everyBucket(t, func(t *testing.T, open func() partd.Partd) {
		s := open()
		defer closeStore(t, s)
		attempttest.Run(t, s)
	})
}

// Words counted by tasks with several attempts must equal a direct count.
func TestWordCount(t *testing.T) {
	everyBucket(t, func(t *testing.T, open func() partd.Partd) {
		want := map[string]int{}
		var total []partd.Entry
		for n := range 4 {
			entries := side(fmt.Sprint("text", n), 300)
			total = append(total, entries...)
			t.Run(fmt.Sprint("task ", n), func(t *testing.T) { task(t, open, fmt.Sprint(n), entries) })
		}
		for _, e := range total {
			for _, word := range strings.Fields(string(e.Value)) {
				want[word]++
			}
		}
		store := open()
		defer closeStore(t, store)
		c := committedOf(t, store, 4)
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
			t.Errorf("%d words, want %d, %v", len(got), len(want), err)
		}
		if err := c.Verify(shares[1:]...); err == nil {
			t.Error("a missing part was not detected")
		}
	})
}

// A join of two sides, partition by partition.
func TestJoin(t *testing.T) {
	everyBucket(t, func(t *testing.T, open func() partd.Partd) {
		left, right := side("left", 200), side("right", 300)
		task(t, open, "left", left)
		task(t, open, "right", right)
		key := func(line string) string { return strings.Fields(line)[1] }
		want := map[string]int{}
		for _, l := range left {
			for _, r := range right {
				if key(string(l.Value)) == key(string(r.Value)) {
					want[string(l.Value)+string(r.Value)]++
				}
			}
		}
		store := open()
		defer closeStore(t, store)
		c := committedOf(t, store, 2)
		got := map[string]int{}
		var share shuffle.Checksum
		for part := range 16 {
			lines := func(side string, share *shuffle.Checksum) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) {
					for v, err := range c.Values(t.Context(), fmt.Sprint("part ", part), share) {
						if (err != nil || strings.HasPrefix(string(v), side)) && !yield(string(v), err) {
							return
						}
					}
				}
			}
			for row, err := range shuffle.Join(t.Context(), lines("left", &share), lines("right", nil), key, key, nil) {
				if err != nil {
					t.Fatal(err)
				}
				got[row.Left+row.Right]++
			}
		}
		if err := c.Verify(share); err != nil || !maps.Equal(got, want) || len(want) < 500 {
			t.Errorf("%d rows, want %d, %v", len(got), len(want), err)
		}
	})
}

// A store with an unsupported scheme must cause an error that names the program that
// supports it.
func TestLightProgram(t *testing.T) {
	if _, err := stores.Open(t.Context(), "s3://bucket/prefix"); err == nil || !strings.Contains(err.Error(), "partd-cloud") {
		t.Error(err)
	}
}
