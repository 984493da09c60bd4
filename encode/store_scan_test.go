package encode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// readGroups collects the values of groups by key.
func readGroups[T any](groups iter.Seq2[Group[T], error]) (map[string][]T, error) {
	values := map[string][]T{}
	for g, err := range groups {
		if err != nil {
			return nil, err
		}
		if _, twice := values[g.Key]; twice {
			return nil, fmt.Errorf("key %q was yielded twice", g.Key)
		}
		values[g.Key] = nil
		for v, err := range g.Values {
			if err != nil {
				return nil, err
			}
			values[g.Key] = append(values[g.Key], v)
		}
	}
	return values, nil
}

// TestScan checks that Scan and ScanPart yield all values, even if a chunk ends in the middle of a value.
func TestScan(t *testing.T) {
	file := must.Get(partd.OpenTemp(t.TempDir()))(t)
	s := New(file, JSON[[]string]())
	defer s.Close()
	want := map[string][][]string{}
	for i := range 60 {
		key := fmt.Sprint("key ", i)
		for j := range 1 + i%3 {
			v := []string{strings.Repeat(fmt.Sprint(i, j, ","), 1+i*i*20)}
			must.Do(t, s.Append(ctx, Entry[[]string]{key, v}))
			want[key] = append(want[key], v)
		}
	}
	must.Do(t, file.Set(ctx, "empty", nil))
	want["empty"] = nil
	wantValues := func(label string, got map[string][][]string, err error) {
		t.Helper()
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s yielded %d keys, %v, want %d", label, len(got), err, len(want))
		}
		for key, values := range want {
			if !slices.EqualFunc(got[key], values, slices.Equal[[]string]) {
				t.Errorf("%s: the values of key %q differ", label, key)
			}
		}
	}
	got, err := readGroups(s.Scan(ctx))
	wantValues("Scan", got, err)
	keys := 0
	for g, err := range s.Scan(ctx) { // without reading the values
		must.Do(t, err)
		if keys++; want[g.Key] == nil && g.Key != "empty" {
			t.Errorf("Scan yielded key %q, which does not exist", g.Key)
		}
	}
	if keys != len(want) {
		t.Errorf("Scan without reading values yielded %d keys, want %d", keys, len(want))
	}
	allParts := map[string][][]string{}
	for part := range 4 {
		partEntries := must.Get(readGroups(s.ScanPart(ctx, part, 4)))(t)
		if len(partEntries) < 5 {
			t.Errorf("part %d has %d keys, want at least 5", part, len(partEntries))
		}
		for key, values := range partEntries {
			allParts[key] = append(allParts[key], values...)
		}
	}
	wantValues("ScanPart", allParts, nil)
	if _, err := readGroups(s.ScanPart(ctx, 4, 4)); err == nil {
		t.Error("ScanPart of part 4 of 4 succeeded, but parts are numbered from 0")
	}
}

// TestScanSkipsValues checks that values may be skipped, but not read after the scan has moved on.
func TestScanSkipsValues(t *testing.T) {
	s := New(partd.NewDict(), Bytes())
	for i := range 20 {
		key := fmt.Sprint("key ", i)
		must.Do(t, s.Append(ctx, Entry[[]byte]{key, []byte(key)}, Entry[[]byte]{key, []byte("second")}))
	}
	n := 0
	var groups []Group[[]byte]
	for g, err := range s.Scan(ctx) {
		must.Do(t, err)
		if n++; n%2 == 0 {
			for v, err := range g.Values {
				if must.Do(t, err); string(v) != g.Key {
					t.Errorf("the first value of key %q is %q, want the key itself", g.Key, v)
				}
				break
			}
		}
		groups = append(groups, g)
	}
	if n != 20 {
		t.Errorf("Scan yielded %d keys, want 20", n)
	}
	for i, g := range groups {
		n := 0
		for v, err := range g.Values {
			if n++; !strings.Contains(fmt.Sprint(err), "only until the scan yields the next key") {
				t.Errorf("after the scan, Values of key %q yields %q, %v, want an error about the next key", g.Key, v, err)
			}
		}
		if n != 1 && i < 19 { // the scan did not move on from the last key
			t.Errorf("after the scan, Values of key %q yields %d items, want an error", g.Key, n)
		}
	}
	next, stop := iter.Pull2(s.Scan(ctx))
	defer stop()
	g, err, _ := next()
	must.Do(t, err)
	steps := 0
	for _, err := range g.Values {
		if steps++; steps == 2 && !strings.Contains(fmt.Sprint(err), "only until the scan yields the next key") {
			t.Errorf("a value after the scan has advanced = %v, want an error about the next key", err)
		}
		_, _, _ = next()
	}
	if steps != 2 {
		t.Errorf("Values yielded %d items, want a value and an error", steps)
	}
}

// failing is a store whose scan yields the given chunks and then, if err is not nil, the error.
type failing struct {
	partd.Partd
	chunks []partd.Chunk
	err    error
}

func (f failing) Scan(context.Context) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		for _, c := range f.chunks {
			if !yield(c, nil) {
				return
			}
		}
		if f.err != nil {
			yield(partd.Chunk{}, f.err)
		}
	}
}

// TestScanDamage checks that the error for a damaged value names its key, and that the scan continues
// after it. An error of the store must end the scan, whether it occurs within a value or between values.
func TestScanDamage(t *testing.T) {
	good := frame.Append(nil, []byte("[1]"))
	inner := partd.NewDict()
	must.Do(t, inner.Append(ctx, partd.Entry{Key: "k", Value: append(slices.Clone(good), "not a frame"...)}))
	for i := range 10 {
		must.Do(t, inner.Append(ctx, partd.Entry{Key: fmt.Sprint("good ", i), Value: good}))
	}
	keys, errorCount := 0, 0
	for g, err := range New(inner, JSON[[]int]()).Scan(ctx) {
		must.Do(t, err)
		keys++
		for _, err := range g.Values {
			if err != nil {
				errorCount++
				checkDamage(t, "Scan", err, int64(len(good)), "limit")
			}
		}
	}
	if keys != 11 || errorCount != 1 {
		t.Errorf("the scan yielded %d keys and %d errors, want 11 and 1", keys, errorCount)
	}

	// A broken connection is an error, not the end of the scan.
	diskErr, brokenErr := errors.New("the disk is gone"), fmt.Errorf("the connection broke: %w", io.EOF)
	first := partd.Chunk{Key: "k", Data: good[:5]}
	for name, c := range map[string]struct {
		store   failing
		wantErr error
		text    string
	}{
		"an error within a key":   {failing{chunks: []partd.Chunk{first}, err: diskErr}, diskErr, "gone"},
		"an end within a key":     {failing{chunks: []partd.Chunk{first}}, nil, "within a key"},
		"an error after a key":    {failing{chunks: []partd.Chunk{{Key: "k", Data: good, Last: true}}, err: diskErr}, diskErr, "gone"},
		"an error and no key":     {failing{err: diskErr}, diskErr, "gone"},
		"a broken connection":     {failing{chunks: []partd.Chunk{{Key: "k", Data: good, Last: true}}, err: io.EOF}, io.EOF, "EOF"},
		"a wrapped io.EOF":        {failing{chunks: []partd.Chunk{{Key: "k", Data: good, Last: true}}, err: brokenErr}, brokenErr, "broke"},
		"a store that can't scan": {failing{err: errors.ErrUnsupported}, errors.ErrUnsupported, "unsupported"},
	} {
		c.store.Partd = inner
		for _, readsAll := range []bool{true, false} {
			var lastErr error
			errs := 0
			for g, err := range New(c.store, JSON[[]int]()).Scan(ctx) {
				if err != nil {
					lastErr = err
					errs++
					continue
				}
				for range g.Values {
					if !readsAll {
						break
					}
				}
			}
			if errs != 1 || c.wantErr != nil && !errors.Is(lastErr, c.wantErr) || !strings.Contains(lastErr.Error(), c.text) {
				t.Errorf("%s (all values are read: %v): Scan yielded %d errors, the last %v, want one with %q", name, readsAll, errs, lastErr, c.text)
			}
		}
	}
}

// TestScanMemory checks that a scan holds only one value at a time in memory.
func TestScanMemory(t *testing.T) {
	piece := frame.Append(nil, make([]byte, 1<<20))
	var chunks []partd.Chunk
	for i := range 1000 {
		chunks = append(chunks, partd.Chunk{Key: "k", Offset: int64(i * len(piece)), Data: piece, Last: i == 999})
	}
	codec := Bytes()
	codec.Decode = func(data []byte) ([]byte, error) { return data[:1], nil }
	store := New(failing{Partd: partd.NewDict(), chunks: chunks}, codec)
	n := 0
	allocated := procs.Allocated(func() {
		for g, err := range store.Scan(ctx) {
			must.Do(t, err)
			for _, err := range g.Values {
				must.Do(t, err)
				n++
			}
		}
	})
	if n != 1000 {
		t.Errorf("Values yielded %d values, want 1000", n)
	}
	if allocated > 8<<20 {
		t.Errorf("scanning a key of 1,000 MiB allocated %d bytes, want at most 8 MiB", allocated)
	}
}
