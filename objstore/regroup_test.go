package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// optionVariants returns the options of the two ways to read a store: in several passes over the bucket, and by
// regrouping the data on disk.
func optionVariants(h hooks) []Options {
	regroup := h
	regroup.alwaysRegroup = true
	return []Options{{hooks: h}, {Disk: 1 << 30, hooks: regroup}}
}

// readPart returns a part as a list of keys and values.
func readPart(ctx context.Context, s *Store, part, parts int) (content []string, err error) {
	var value []byte
	for c, err := range s.ScanPart(ctx, part, parts) {
		if err != nil {
			return content, err
		}
		if c.Offset != int64(len(value)) {
			return content, fmt.Errorf("got a chunk of %.20q at offset %d after %d bytes", c.Key, c.Offset, len(value))
		}
		if value = append(value, c.Data...); c.Last {
			content, value = append(content, c.Key, string(value)), value[:0]
		}
	}
	return content, nil
}

// TestRegroupEqualsPasses checks that reading in passes and regrouping on disk yield the content of a Dict,
// from any store: with Sets and Deletes, keys larger than memory, segments of any size, and any hash.
// PARTD_REGROUPS is the number of stores, and PARTD_REGROUP_SEED the seed of the first one.
func TestRegroupEqualsPasses(t *testing.T) {
	count := 4 // one for each combination of options below
	if procs.RaceEnabled {
		count = 1
	}
	first := procs.Number(t, "PARTD_REGROUP_SEED", rand.IntN(1_000_000))
	for i := range procs.Number(t, "PARTD_REGROUPS", count) {
		seed := uint64(first + i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 41))
			h := hooks{maxInline: []int64{-1, 1 << 10}[seed%2], rangeBytes: 1 << (8 + random.IntN(24))}
			keys := []int{1000, 1000, 100, 12}[seed%4]
			h.keyHash = []func(string) uint64{nil, nil, byteHash, func(key string) uint64 { return byteHash(key)>>62<<62 | 0x123456789abcdef0 }}[seed%4]
			b, d := new(Memory), partd.NewDict()
			writers := []*Store{
				open(t, b, Options{SegmentSize: 1 << (17 + random.IntN(4)), hooks: h}),
				open(t, b, Options{SegmentSize: 1 << (17 + random.IntN(4)), hooks: h}),
			}
			large := bytes.Repeat([]byte("0123456789"), 20_000)
			for i := range 400 {
				s := writers[i/20%2]
				key := fmt.Sprint("key ", random.IntN(keys))
				value := large[random.IntN(9):][:random.IntN(3000)]
				change := func(f func(store partd.Partd) error) {
					must.Do(t, errors.Join(f(s), f(d)))
				}
				switch n := random.IntN(40); {
				case n == 0:
					change(func(store partd.Partd) error { return partd.Delete(t.Context(), store, key, "hot") })
				case n == 1:
					change(func(store partd.Partd) error { return partd.Set(t.Context(), store, key, value) })
				case n == 2:
					change(func(store partd.Partd) error { return partd.SetOnce(t.Context(), store, key, large[:100_000]) })
				case n == 3:
					change(func(store partd.Partd) error {
						return store.Append(t.Context(), partd.Entry{Key: strings.Repeat(key, 8000), Value: large})
					})
				default:
					entries := []partd.Entry{{Key: "hot", Value: value}}
					for range random.IntN(50) {
						entries = append(entries, partd.Entry{Key: fmt.Sprint("key ", random.IntN(keys)), Value: large[:random.IntN(200)]})
					}
					change(func(store partd.Partd) error { return store.Append(t.Context(), entries...) })
				}
				if i%20 == 19 {
					must.Do(t, s.Flush(t.Context()))
				}
			}
			want := map[string]string{}
			for c, err := range partd.Scan(t.Context(), d) {
				must.Do(t, err)
				want[c.Key] += string(c.Data)
			}
			for _, limit := range []int64{0, MinMemory / 2} {
				for _, parts := range []int{1, 3, 50} {
					var read [2][]string
					for i, o := range optionVariants(h) {
						o.ReadOnly = true
						s := open(t, b, o)
						s.scans.limit = limit // each reader gets the minimum, or the usual memory
						for part := range parts {
							all, err := readPart(t.Context(), s, part, parts)
							if err != nil {
								t.Fatalf("options %d, memory limit %d, part %d of %d: %v", i, limit, part, parts, err)
							}
							read[i] = append(read[i], all...)
						}
						if s.disk.used.Load() != 0 || s.scans.used.Load() != 0 {
							t.Errorf("%d bytes of disk and %d of memory were not freed", s.disk.used.Load(), s.scans.used.Load())
						}
						must.Check(t, s.Close())
					}
					if !slices.Equal(slices.Sorted(slices.Values(read[0])), slices.Sorted(slices.Values(read[1]))) {
						t.Errorf("%d parts: the two ways of reading yield different content: %d and %d keys", parts, len(read[0])/2, len(read[1])/2)
					}
					if len(read[1]) != 2*len(want) {
						t.Errorf("%d parts: read %d keys, want %d", parts, len(read[1])/2, len(want))
					}
					for i := 0; i < len(read[1]); i += 2 {
						if v, exists := want[read[1][i]]; !exists || v != read[1][i+1] {
							t.Errorf("%d parts: key %.20q has %d bytes, want %d", parts, read[1][i], len(read[1][i+1]), len(v))
						}
					}
				}
			}
		})
	}
}

// rangeRecorder records the ranges of segments that are read.
type rangeRecorder struct {
	Bucket
	mu     sync.Mutex
	ranges map[string][]interval
}

func (r *rangeRecorder) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "seg/") {
		r.mu.Lock()
		r.ranges[name] = append(r.ranges[name], interval{uint64(offset), uint64(offset + length)})
		r.mu.Unlock()
	}
	return r.Bucket.ReadRange(ctx, name, offset, length)
}

const filledKeys = 3 * 4100

// filledBucket returns a bucket with three segments of 4 MiB.
func filledBucket(t testing.TB) *Memory {
	t.Helper()
	b := new(Memory)
	for i := range 3 {
		s := open(t, b, Options{Memory: 512 << 20, SegmentSize: 64 << 20})
		value := make([]byte, 1000)
		for n := range filledKeys / 3 {
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint("key ", n, i), Value: value}))
		}
		must.Do(t, s.Close())
	}
	return b
}

// TestRegroupRequestsOnce checks that each byte of a segment is requested once, by a single request or by several
// requests of at least 1 MiB.
func TestRegroupRequestsOnce(t *testing.T) {
	b := filledBucket(t)
	for parts, longest := range map[int]int{1: 4, 2: 2} {
		r := &rangeRecorder{Bucket: b, ranges: map[string][]interval{}}
		s := open(t, r, Options{Disk: 1 << 30})
		for part := range parts {
			clear(r.ranges)
			must.Get(readPart(t.Context(), s, part, parts))(t)
			if len(r.ranges) != 3 {
				t.Fatalf("read %d segments, want 3", len(r.ranges))
			}
			for name, ranges := range r.ranges {
				if len(ranges) > longest {
					t.Errorf("part %d of %d: %d requests to %s, want at most %d", part, parts, len(ranges), name, longest)
				}
				slices.SortFunc(ranges, func(a, b interval) int { return int(a.lo) - int(b.lo) })
				for i, iv := range ranges[1:] {
					if iv.lo != ranges[i].hi || ranges[i].hi-ranges[i].lo < 1<<20 {
						t.Errorf("part %d of %d: requested the ranges %v, want consecutive ranges of at least 1 MiB", part, parts, ranges)
					}
				}
			}
		}
	}
	// Data that fits in memory, and passes with long requests, must not use the disk.
	for _, o := range []Options{{Disk: 1 << 30, Memory: 512 << 20}, {Disk: 1, hooks: hooks{requestBytes: 1000}}} {
		s := open(t, b, o)
		s.disk.temp = nil // so that creating a file panics
		wantKeys(t, s, filledKeys)
	}
}

// TestRegroupFromFaultyBuckets checks that responses that are always truncated or changed cause an error.
// After a temporary failure, the reader must request the data again, but not write data to disk twice.
func TestRegroupFromFaultyBuckets(t *testing.T) {
	mem := filledBucket(t)
	for name, c := range map[string]struct {
		read      func(n int, data []byte) ([]byte, error)
		wantError bool
	}{
		"truncated":         {func(_ int, b []byte) ([]byte, error) { return b[:len(b)*9/10], nil }, true},
		"empty":             {func(int, []byte) ([]byte, error) { return nil, nil }, true},
		"flipped":           {func(_ int, b []byte) ([]byte, error) { b[len(b)*9/10] ^= 1; return b, nil }, true},
		"flipped once":      {func(n int, b []byte) ([]byte, error) { b[len(b)*9/10] ^= byte(1 - min(n, 1)); return b, nil }, false},
		"truncated once":    {func(n int, b []byte) ([]byte, error) { return b[:len(b)*(9+min(n, 1))/10], nil }, false},
		"broken connection": {func(n int, b []byte) ([]byte, error) { return b, []error{io.ErrUnexpectedEOF, nil}[n%2] }, false},
	} {
		for _, rangeBytes := range []int64{0, 1 << 40} { // segments with the second value are streamed
			t.Run(fmt.Sprint(name, rangeBytes), func(t *testing.T) {
				b := &faultyBucket{Bucket: mem}
				if rangeBytes > 0 {
					b.Bucket = new(Memory)
					s := open(t, b.Bucket, Options{hooks: hooks{rangeBytes: rangeBytes}})
					appendAll(t, s, 6000, 1000)
				}
				retryFor := 100 * time.Millisecond
				if !c.wantError {
					retryFor = 10 * time.Second
				}
				s := open(t, b, Options{Disk: 1 << 30, RetryFor: retryFor})
				want := must.Get(countKeys(t.Context(), s))(t)
				var mu sync.Mutex
				tries := map[string]int{}
				b.read = func(object string, off, _ int64, data []byte) ([]byte, error) {
					if !strings.HasPrefix(object, "seg/") || len(data) == 0 {
						return data, nil
					}
					mu.Lock()
					defer mu.Unlock()
					key := fmt.Sprint(object, off)
					tries[key]++
					return c.read(tries[key]-1, data)
				}
				n, err := countKeys(t.Context(), s)
				if (err != nil) != c.wantError || err == nil && n != want {
					t.Errorf("counted %d keys, error %v; want %d keys, or an error: %v", n, err, want, c.wantError)
				}
			})
		}
	}
}

// TestPileLayoutFitsBudget checks that the buffers of all piles (intervals of hashes) fit in a budget.
func TestPileLayoutFitsBudget(t *testing.T) {
	for _, budget := range []int64{minScanMemory / 2, 2 << 20, 160 << 20, 2 << 30} {
		for size := int64(1 << 10); size < 1000*budget; size *= 8 {
			for _, entry := range []int64{10, 100, 60_000} {
				sh := share{requests: 1000, bytes: 2 * size, weight: 4 * size, insideBytes: size, entries: size / entry}
				p := sh.pileLayout(budget)
				if p.piles < 2 || p.blockSize < minPileBlock || int64(p.piles)*int64(p.blockSize) > budget || p.diskBytes < size || p.diskBytes > 2*size {
					t.Errorf("budget %d, %d bytes: invalid layout %+v", budget, size, p)
				}
			}
		}
	}
}
