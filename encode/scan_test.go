package encode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// read collects the values of groups by key.
func read[T any](groups iter.Seq2[Group[T], error]) (map[string][]T, error) {
	all := map[string][]T{}
	for g, err := range groups {
		if err != nil {
			return nil, err
		}
		if _, twice := all[g.Key]; twice {
			return nil, fmt.Errorf("key %q comes twice", g.Key)
		}
		all[g.Key] = nil
		for v, err := range g.Values {
			if err != nil {
				return nil, err
			}
			all[g.Key] = append(all[g.Key], v)
		}
	}
	return all, nil
}

// TestScan reads values that chunk boundaries cut anywhere, and large values, in one scan
// and by parts.
func TestScan(t *testing.T) {
	file, err := partd.OpenTemp(t.TempDir())
	must(t, err)
	s := New(file, JSON[[]string]())
	defer s.Close()
	want := map[string][][]string{}
	for i := range 60 {
		key := fmt.Sprint("key ", i)
		for j := range 1 + i%3 {
			v := []string{strings.Repeat(fmt.Sprint(i, j, ","), 1+i*i*20)}
			must(t, s.Append(ctx, Entry[[]string]{key, v}))
			want[key] = append(want[key], v)
		}
	}
	must(t, file.Set(ctx, "empty", nil))
	want["empty"] = nil
	wantValues := func(label string, got map[string][][]string, err error) {
		t.Helper()
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %d keys, want %d: %v", label, len(got), len(want), err)
		}
		for key, values := range want {
			if !slices.EqualFunc(got[key], values, slices.Equal[[]string]) {
				t.Errorf("%s: key %q differs", label, key)
			}
		}
	}
	got, err := read(s.Scan(ctx))
	wantValues("Scan", got, err)
	keys := 0
	for g, err := range s.Scan(ctx) { // without reading the values
		must(t, err)
		if keys++; want[g.Key] == nil && g.Key != "empty" {
			t.Errorf("there is no key %q", g.Key)
		}
	}
	if keys != len(want) {
		t.Errorf("%d keys, want %d", keys, len(want))
	}
	together := map[string][][]string{}
	for part := range 4 {
		partEntries, err := read(s.ScanPart(ctx, part, 4))
		must(t, err)
		if len(partEntries) < 5 {
			t.Errorf("part %d has %d keys", part, len(partEntries))
		}
		for key, values := range partEntries {
			together[key] = append(together[key], values...)
		}
	}
	wantValues("ScanPart", together, nil)
	if _, err := read(s.ScanPart(ctx, 4, 4)); err == nil {
		t.Error("there is no part 4 of 4")
	}
}

// TestScanSkipsValues moves to the next key before the values are read, or while they are
// being read.
func TestScanSkipsValues(t *testing.T) {
	s := New(partd.NewDict(), Bytes())
	for i := range 20 {
		key := fmt.Sprint("key ", i)
		must(t, s.Append(ctx, Entry[[]byte]{key, []byte(key)}, Entry[[]byte]{key, []byte("second")}))
	}
	n := 0
	var before []Group[[]byte]
	for g, err := range s.Scan(ctx) {
		must(t, err)
		if n++; n%2 == 0 {
			for v, err := range g.Values {
				if must(t, err); string(v) != g.Key {
					t.Errorf("key %q begins with %q", g.Key, v)
				}
				break
			}
		}
		before = append(before, g)
	}
	if n != 20 {
		t.Errorf("%d keys", n)
	}
	for _, g := range before {
		for v, err := range g.Values {
			if !errors.Is(err, errScanAdvanced) {
				t.Errorf("values of key %q after the scan: %q, %v", g.Key, v, err)
			}
		}
	}
	next, stop := iter.Pull2(s.Scan(ctx))
	defer stop()
	g, err, _ := next()
	must(t, err)
	steps := 0
	for _, err := range g.Values {
		if steps++; steps == 2 && !errors.Is(err, errScanAdvanced) {
			t.Errorf("a value after the next key was asked for: %v", err)
		}
		_, _, _ = next()
	}
	if steps != 2 {
		t.Errorf("%d steps", steps)
	}
}

// failing is a store whose scan ends early.
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

// TestScanDamage checks that an error of a value names its key, and that the scan continues.
// An error of the store ends the scan, within values or between them.
func TestScanDamage(t *testing.T) {
	good := frame.Append(nil, []byte("[1]"))
	below := partd.NewDict()
	must(t, below.Append(ctx, partd.Entry{Key: "k", Value: append(slices.Clone(good), "not a frame"...)}))
	for i := range 10 {
		must(t, below.Append(ctx, partd.Entry{Key: fmt.Sprint("good ", i), Value: good}))
	}
	keys, failed := 0, 0
	for g, err := range New(below, JSON[[]int]()).Scan(ctx) {
		must(t, err)
		keys++
		for _, err := range g.Values {
			if err != nil {
				failed++
				checkDamage(t, "Scan", err, int64(len(good)), "limit")
			}
		}
	}
	if keys != 11 || failed != 1 {
		t.Errorf("%d keys, %d errors", keys, failed)
	}

	disk := errors.New("the disk is gone")
	first := partd.Chunk{Key: "k", Data: good[:5]}
	for name, c := range map[string]struct {
		store   failing
		wantErr error
		text    string
	}{
		"an error within a key":   {failing{chunks: []partd.Chunk{first}, err: disk}, disk, "gone"},
		"an end within a key":     {failing{chunks: []partd.Chunk{first}}, nil, "within a key"},
		"an error after a key":    {failing{chunks: []partd.Chunk{{Key: "k", Data: good, Last: true}}, err: disk}, disk, "gone"},
		"an error and no key":     {failing{err: disk}, disk, "gone"},
		"a store that can't scan": {failing{err: errors.ErrUnsupported}, errors.ErrUnsupported, "unsupported"},
	} {
		c.store.Partd = below
		for _, reads := range []bool{true, false} {
			var last error
			errs := 0
			for g, err := range New(c.store, JSON[[]int]()).Scan(ctx) {
				if err != nil {
					last = err
					errs++
					continue
				}
				for range g.Values {
					if !reads {
						break
					}
				}
			}
			if errs != 1 || c.wantErr != nil && !errors.Is(last, c.wantErr) || !strings.Contains(last.Error(), c.text) {
				t.Errorf("%s, reads %v: %d errors, %v", name, reads, errs, last)
			}
		}
	}
}

// TestScanMemory checks that a scan holds one value at a time, however large the key is.
func TestScanMemory(t *testing.T) {
	piece := frame.Append(nil, make([]byte, 1<<20))
	var chunks []partd.Chunk
	for i := range 1000 {
		chunks = append(chunks, partd.Chunk{Key: "k", Offset: int64(i * len(piece)), Data: piece, Last: i == 999})
	}
	codec := Bytes()
	codec.Decode = func(data []byte) ([]byte, error) { return data[:1], nil }
	store := New(failing{Partd: partd.NewDict(), chunks: chunks}, codec)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for g, err := range store.Scan(ctx) {
		must(t, err)
		for _, err := range g.Values {
			must(t, err)
			n++
		}
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	if n != 1000 {
		t.Errorf("%d values", n)
	}
	if allocated > 8<<20 {
		t.Errorf("a key of 1,000 MiB takes %d bytes", allocated)
	}
}

// breaking is a store whose scans fail after the first key.
type breaking struct {
	*partd.Dict
	err error
}

func (b breaking) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		for c, err := range b.Dict.Scan(ctx) {
			if yield(c, err) {
				yield(partd.Chunk{}, b.err)
			}
			return
		}
	}
}

// A broken connection is an error, not the end of the scan.
func TestScanBrokenConnection(t *testing.T) {
	for _, broken := range []error{io.EOF, fmt.Errorf("the connection broke: %w", io.EOF)} {
		s := New(breaking{partd.NewDict(), broken}, Bytes())
		must(t, s.Append(ctx, Entry[[]byte]{"a", []byte("1")}, Entry[[]byte]{"b", []byte("2")}))
		if got, err := read(s.Scan(ctx)); !errors.Is(err, broken) {
			t.Errorf("%d keys of 2, and %v where the scan failed with: %v", len(got), err, broken)
		}
	}
}
