package logstore

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestPartHashes checks that the hash intervals of parts are adjacent and of similar size.
func TestPartHashes(t *testing.T) {
	for _, parts := range []int{1, 2, 3, 7, 1000, 1024, 65_535, partd.MaxParts} {
		next := uint64(0)
		for p := range parts {
			r := partHashes(p, parts)
			if r.lo != next || r.hi < r.lo || parts > 1 && (r.hi-r.lo)/2 > 1<<63/uint64(parts) {
				t.Fatalf("part %d of %d has the hashes %x to %x, want a similar share that starts at %x", p, parts, r.lo, r.hi, next)
			}
			next = r.hi + 1
		}
		if next != 0 {
			t.Fatalf("the last of %d parts does not end at the highest hash: the next would start at %x", parts, next)
		}
	}
	s := mustOpen(t, t.TempDir(), nil)
	for _, p := range [][2]int{{-1, 3}, {3, 3}, {0, 0}, {0, partd.MaxParts + 1}} {
		if got, err := collectParts(s.ScanPart(t.Context(), p[0], p[1])); err == nil || len(got.keys) > 0 {
			t.Errorf("ScanPart(%d, %d) yielded keys %v and error %v, want only an error", p[0], p[1], got.keys, err)
		}
	}
}

// TestScanHeavyHash reads keys with the same hash whose data and references together exceed the
// memory limits. They must be read one at a time, and streamed keys among them only once.
func TestScanHeavyHash(t *testing.T) {
	h := scanHooks(vfstest.NewMem())
	h.readBytes, h.tableBytes = 8<<10, 256<<10
	h.hash = func(key string) uint64 {
		if key[0] == 'x' {
			return 1 << 40
		}
		return uint64(key[len(key)-1]) << 36
	}
	s := openWith(t, "/s", nil, h)
	defer s.Close()
	want := map[string][]byte{}
	add := func(key string, n, times int) {
		var entries []partd.Entry
		for range times {
			v := bytes.Repeat([]byte{key[len(key)-1]}, n)
			entries = append(entries, partd.Entry{Key: key, Value: v})
			want[key] = append(want[key], v...)
		}
		must.Do(t, s.Append(t.Context(), entries...))
	}
	check := func() {
		t.Helper()
		got, err := collectParts(s.Scan(t.Context()))
		if err != nil || !maps.EqualFunc(got.values, want, bytes.Equal) {
			t.Fatalf("Scan yielded wrong contents: %d keys, want %d; error %v", len(got.keys), len(want), err)
		}
		n := 0
		for k, err := range s.Keys(t.Context()) {
			if err != nil || k.Key != got.keys[n] || k.Size != int64(len(want[k.Key])) {
				t.Fatalf("Keys yielded %+v, %v, want key %q with %d bytes", k, err, got.keys[n], len(want[k.Key]))
			}
			n++
		}
		if n != len(want) {
			t.Fatalf("Keys yielded %d keys, want %d", n, len(want))
		}
	}
	for i := range 60 {
		add(fmt.Sprint("other", i), 200, 1)
		if i%10 == 0 {
			must.Do(t, s.Flush(t.Context()))
		}
	}
	add("x tiny", 1, 300)
	add("x hot", 200, 1)
	must.Do(t, s.Flush(t.Context()))
	add("x hot", 290, 20)
	check()
	if len(s.segments.list[len(s.segments.list)-1].Hot) != 1 {
		t.Fatal("the last segment has no hot key, want one")
	}
	for i := range 200 {
		add(fmt.Sprintf("x%0100d", i), 1, 2)
	}
	check()
}

func TestSortByHash(t *testing.T) {
	var counts [2][1 << maxDigitBits]uint32
	rapid.Check(t, func(t *rapid.T) {
		r := hashRange{rapid.Uint64().Draw(t, "lo"), rapid.Uint64().Draw(t, "hi")}
		if r.lo > r.hi {
			r.lo, r.hi = r.hi, r.lo
		}
		hash := rapid.Uint64Range(r.lo, r.hi)
		fewHashes := rapid.SliceOfN(hash, 1, 5).Draw(t, "few")
		refs := rapid.SliceOf(rapid.OneOf(hash, rapid.SampledFrom(fewHashes), rapid.Uint64Range(r.lo, min(r.hi, r.lo|0xff)))).Draw(t, "hashes")
		var got []entryRef
		for i, h := range refs {
			got = append(got, entryRef{hash: h, keyAndKind: uint32(i)})
		}
		want := slices.Clone(got)
		slices.SortStableFunc(want, func(a, b entryRef) int { return cmp.Compare(a.hash, b.hash) })
		if got, _ = sortByHash(got, make([]entryRef, len(got)), r, &counts); !slices.Equal(got, want) {
			t.Fatalf("sortByHash returned %v, want %v", got, want)
		}
	})
}
