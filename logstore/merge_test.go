package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// mergeHooks are hooks with which most segments are small, and a few of them make a merge due.
var mergeHooks = hooks{tableBytes: 64 << 10, blobBytes: 600, readBytes: 16 << 10, walStep: 4096, minMerge: 4, smallLen: 1 << 20}

// waitMerged waits for the end of a merge.
func waitMerged(t *testing.T, s *Store) {
	t.Helper()
	for range 10_000 {
		s.mu.Lock()
		running := s.merging.running
		s.mu.Unlock()
		if !running {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the merge does not end")
}

// Merges must not change the content: hot keys, large values and resets, in one or
// several segments, compressed or not.
func TestMergeContent(t *testing.T) {
	for _, c := range []Compression{None, S2, Zstd} {
		for _, bytesMost := range []int64{0, 4 << 10, 40 << 10} {
			for seed := range uint64(1 + len(c.String())%2) {
				mem := vfstest.NewMem()
				h := mergeHooks
				h.fs, h.mergeBytes = mem, bytesMost
				s, err := open("/s", &Options{Compression: c}, h)
				if err != nil {
					t.Fatal(err)
				}
				want := map[string][]byte{}
				rnd := rand.New(rand.NewPCG(seed, 9))
				for round := range 40 {
					for range rnd.IntN(60) {
						k := fmt.Sprint(rnd.IntN(400))
						if rnd.IntN(3) == 0 {
							k = "hot"
						}
						v := bytes.Repeat(fmt.Appendf(nil, "%d ", rnd.IntN(1000)), 1+rnd.IntN(60))
						if rnd.IntN(60) == 0 {
							v = bytes.Repeat(v, 8)
						}
						switch x := rnd.IntN(100); {
						case x == 0:
							delete(want, k)
							err = s.Delete(t.Context(), k)
						case x == 1:
							want[k] = bytes.Clone(v)
							err = s.Set(t.Context(), k, v)
						default:
							want[k] = append(want[k], v...)
							err = s.Append(t.Context(), partd.Entry{Key: k, Value: v})
						}
						if err != nil {
							t.Fatal(err)
						}
					}
					if err := s.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
					if round%20 == 19 {
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
						if s, err = open("/s", &Options{Compression: c}, h); err != nil {
							t.Fatal(err)
						}
					}
				}
				waitMerged(t, s)
				if n := s.SegmentCount(); bytesMost == 0 && n > 3*3+1 {
					t.Errorf("%d segments remain", n)
				}
				wantMerged(t, s, want)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = open("/s", nil, h); err != nil {
					t.Fatal(err)
				}
				wantMerged(t, s, want)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// wantMerged checks the content of a store by all kinds of reads.
func wantMerged(t *testing.T, s *Store, want map[string][]byte) {
	t.Helper()
	got, err := contents(s)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d keys, want %d, %v", len(got), len(want), err)
	}
	if _, err := s.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	for k, info := range want {
		if !bytes.Equal(got[k], info) {
			t.Fatalf("key %s: %d bytes, want %d", k, len(got[k]), len(info))
		}
		v, err := s.Get(t.Context(), k)
		if err != nil || !bytes.Equal(v[0], info) {
			t.Fatalf("Get of key %s: %d bytes, want %d, %v", k, len(v[0]), len(info), err)
		}
	}
	for k, err := range s.Keys(t.Context()) {
		if err != nil || k.Size != int64(len(want[k.Key])) {
			t.Fatalf("%+v, %v, want %d bytes", k, err, len(want[k.Key]))
		}
	}
}

// manySessions creates a store of tiny, unmerged segments.
func manySessions(t *testing.T, fs vfs.FS, n int) map[string][]byte {
	t.Helper()
	want := map[string][]byte{}
	h := mergeHooks
	h.fs, h.minMerge = fs, -1
	for i := range n {
		s, err := open("/s", nil, h)
		if err != nil {
			t.Fatal(err)
		}
		for k := range 3 {
			key, v := fmt.Sprint("k", k), fmt.Appendf(nil, "%d,", i)
			want[key] = append(want[key], v...)
			if err := s.Append(t.Context(), partd.Entry{Key: key, Value: v}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

// Sessions that are too short for background merges must neither accumulate segments nor
// rewrite them repeatedly.
func TestMergeShortSessions(t *testing.T) {
	const sessions = 300
	var written int64
	var mu sync.Mutex
	fs := vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, name string) error {
		if op == vfstest.OpWrite && strings.Contains(name, "seg-") {
			mu.Lock()
			written++
			mu.Unlock()
		}
		return nil
	})
	h := mergeHooks
	h.fs, h.minMerge, h.smallLen = fs, 0, 0
	for i := range sessions {
		s, err := open("/s", nil, h)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: fmt.Appendf(nil, "%d,", i)}); err != nil {
			t.Fatal(err)
		}
		if n := s.SegmentCount(); n > 2*minMerge {
			t.Fatalf("%d segments after %d sessions", n, i)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if limit := int64(sessions*3/2 + 20); written > limit {
		t.Errorf("%d writes to segment files, want at most %d", written, limit)
	}
}

// An append-only store must never be rewritten, however it is filled, unless it is
// flushed constantly.
func TestNoMergeOfFullSegments(t *testing.T) {
	mem := vfstest.NewMem()
	s, err := open("/s", nil, hooks{fs: mem, tableBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i % 10), Value: make([]byte, 20<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := contents(s); err != nil {
		t.Fatal(err)
	}
	if n := s.SegmentCount(); n < minMerge {
		t.Errorf("only %d segments", n)
	}
	if _, err := mem.Info("/s/seg-00000002"); !errors.Is(err, os.ErrNotExist) || s.Close() != nil {
		t.Errorf("a second file exists: %v", err)
	}
}

// Gets of single keys must cause a merge of full segments once they have read more than
// the merge costs.
func TestMergeForGets(t *testing.T) {
	h := mergeHooks
	h.fs, h.minMerge, h.smallLen = vfstest.NewMem(), 0, 0
	s, err := open("/s", nil, h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := map[string][]byte{}
	for i := range 20_000 {
		k, v := fmt.Sprint(i%500), fmt.Appendf(nil, "%099d,", i)
		want[k] = append(want[k], v...)
		if err := s.Append(t.Context(), partd.Entry{Key: k, Value: v}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := s.SegmentCount()
	gets := 0
	for ; gets < 5000 && s.SegmentCount() >= 4; gets++ {
		if _, err := s.Get(t.Context(), fmt.Sprint(gets%500)); err != nil {
			t.Fatal(err)
		}
		waitMerged(t, s)
	}
	if before < 20 || s.SegmentCount() >= 4 || gets < 2 {
		t.Errorf("%d segments, and after %d Gets, %d", before, gets, s.SegmentCount())
	}
	wantMerged(t, s, want)
}
