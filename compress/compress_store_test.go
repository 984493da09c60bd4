package compress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
)

// listing is a store that can list its keys, but not scan.
type listing struct {
	partd.Partd
	partd.Lister
}

// TestKeysWithoutScan checks that Keys works over a store that can list and get, but not scan.
func TestKeysWithoutScan(t *testing.T) {
	for _, format := range Formats() {
		dict := partd.NewDict()
		s := newStore(t, listing{dict, dict}, format, nil)
		for _, n := range []int{1, 1000, 70_000} {
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(n), Value: randomText(n)}))
		}
		must.Do(t, dict.Set(t.Context(), "0", nil))
		keyCount := 0
		for info, err := range s.Keys(t.Context()) {
			if err != nil || fmt.Sprint(info.Size) != info.Key {
				t.Errorf("%s: Keys yields key %s with %d bytes, %v, want the number of bytes that the key names", format, info.Key, info.Size, err)
			}
			keyCount++
		}
		if keyCount != 4 {
			t.Errorf("%s: Keys yields %d keys, want 4", format, keyCount)
		}
	}
}

// recorder is a store that records the operations it applies.
type recorder struct {
	*partd.Dict
	tag partd.Tag
	op  partd.Operation
}

func (r *recorder) NewSession(context.Context) (uint64, error) { return 7, nil }
func (r *recorder) EndSession(_ context.Context, session uint64) error {
	return fmt.Errorf("end %d", session)
}

func (r *recorder) Apply(_ context.Context, tag partd.Tag, op partd.Operation) (bool, error) {
	r.tag, r.op = tag, partd.Operation{Change: op.Change, Keys: op.Keys}
	for _, e := range op.Entries {
		r.op.Entries = append(r.op.Entries, partd.Entry{Key: e.Key, Value: bytes.Clone(e.Value)})
	}
	return true, nil
}

// TestApply checks that a layer passes on tags and changes, and compresses values.
func TestApply(t *testing.T) {
	r := &recorder{Dict: partd.NewDict()}
	s := newStore(t, r, S2, nil)
	ctx := t.Context()
	if session, err := s.NewSession(ctx); session != 7 || err != nil {
		t.Errorf("NewSession = %d, %v, want 7", session, err)
	}
	if err := s.EndSession(ctx, 9); err == nil || err.Error() != "end 9" {
		t.Errorf("EndSession = %v, want the store's error for session 9", err)
	}
	tag := partd.Tag{Session: 7, Number: 3, CRC: 0x12345678}
	for _, op := range []partd.Operation{
		{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: "a", Value: randomText(500)}, {Key: "b"}, {Key: "a", Value: []byte("x")}}},
		{Change: partd.ChangeSet, Entries: []partd.Entry{{Key: "a"}}},
		{Change: partd.ChangeSetOnce, Entries: []partd.Entry{{Key: "a", Value: randomText(10)}}},
		{Change: partd.ChangeDelete, Keys: []string{"a", "b"}},
		{Change: partd.ChangeDrop},
	} {
		applied, err := s.Apply(ctx, tag, op)
		if !applied || err != nil || r.tag != tag || r.op.Change != op.Change || len(r.op.Keys) != len(op.Keys) || len(r.op.Entries) != len(op.Entries) {
			t.Errorf("Apply(%+v) = %v, %v, and the store received %+v with the tag %+v, want the same operation with the tag %+v", op, applied, err, r.op, r.tag, tag)
			continue
		}
		for i, e := range r.op.Entries {
			value, err := s.decompressValue(t.Context(), e.Value)
			if err != nil || e.Key != op.Entries[i].Key || !bytes.Equal(value, op.Entries[i].Value) {
				t.Errorf("Apply(%+v): entry %d has the key %q and decompresses to %d bytes, %v, want the original entry", op, i, e.Key, len(value), err)
			}
			if len(op.Entries[i].Value) == 0 && len(e.Value) > 0 {
				t.Errorf("Apply(%+v): an empty value is stored as %d bytes, want 0", op, len(e.Value))
			}
		}
	}
}

// TestPooledStateIsNotShared checks that values that are compressed and decompressed concurrently, some
// of them damaged, do not affect each other through pooled encoders and decoders.
func TestPooledStateIsNotShared(t *testing.T) {
	for _, format := range Formats() {
		t.Run(string(format), func(t *testing.T) {
			s := newStore(t, partd.NewDict(), format, nil)
			values := [][]byte{[]byte("a"), randomText(300), make([]byte, 5000), bytes.Repeat([]byte("xyz"), 70_000), randomText(100_000)}
			if format == BZ2 {
				values = values[:3]
			}
			damaged := frame.Append(nil, pack(t, format, randomText(5000)))
			damaged = damaged[:len(damaged)-5]
			must.Do(t, partd.Set(t.Context(), s.Unwrap(), "damaged", damaged))
			var wg sync.WaitGroup
			for g := range 6 {
				wg.Go(func() {
					for i := range 8 {
						v := values[(g+i)%len(values)]
						key := fmt.Sprintf("%d.%d", g, i)
						batch := []partd.Entry{{Key: key, Value: v}, {Key: key + "+", Value: values[g%2]}, {Key: key, Value: v}}
						if err := s.Append(t.Context(), batch...); err != nil {
							t.Error(err)
						}
						if _, err := s.Get(t.Context(), key, "damaged"); err == nil {
							t.Error("Get of a damaged value succeeded")
						}
						r, err := s.Open(t.Context(), key)
						if err != nil {
							t.Error(err)
							return
						}
						if i%3 == 0 { // stop in the middle
							_, _ = r.Read(make([]byte, 1))
							_ = r.Close()
						} else if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, append(bytes.Clone(v), v...)) {
							t.Errorf("reading with Open = %d bytes, %v, want twice the value of %d bytes", len(data), err, len(v))
						}
						got, err := s.Get(t.Context(), key+"+", key)
						if err != nil || !bytes.Equal(got[0], values[g%2]) || !bytes.Equal(got[1], append(bytes.Clone(v), v...)) {
							t.Errorf("Get returned wrong values, %v", err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestLimitSplitsValues checks that a value over the limit is stored as several pieces, and that a piece over the
// limit cannot be read.
func TestLimitSplitsValues(t *testing.T) {
	for _, format := range Formats() {
		dict := partd.NewDict()
		s := newStore(t, dict, format, &Options{Limit: 1000})
		value := randomText(4321)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value}))
		stored := must.Get(dict.Get(t.Context(), "k"))(t)
		pieces := 0
		for _, err := range frame.Split(stored[0]) {
			if pieces++; err != nil {
				t.Fatal(err)
			}
		}
		for method, read := range readMethods(s) {
			if got, err := read(); pieces != 5 || err != nil || !bytes.Equal(got, value) {
				t.Errorf("%s: %s of %d pieces = %d bytes, %v, want 5 pieces with %d bytes", format, method, pieces, len(got), err, len(value))
			}
		}
		if _, err := newStore(t, dict, format, &Options{Limit: 999}).Get(t.Context(), "k"); !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("%s: Get of a piece over the limit by one byte = %v, want a CorruptError", format, err)
		}
	}
}

// TestStreamsInBoundedMemory checks that Open, Scan and Keys do not hold a piece of 24 MiB in memory.
func TestStreamsInBoundedMemory(t *testing.T) {
	const size = 24 << 20
	for _, format := range []Format{S2, Zstd, LZ4, Zlib, Gzip} {
		file := must.Get(partd.OpenFile(t.TempDir(), nil))(t)
		s := newStore(t, file, format, nil)
		value := bytes.Repeat(randomText(1<<20), size>>20)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: value}))
		for method, read := range streamingReads(t.Context(), s) {
			if method == "Get" {
				continue
			}
			used := allocatedBytes(func() {
				if n, err := read(); n != size || err != nil {
					t.Errorf("%s: %s = %d bytes, %v, want %d", format, method, n, err, size)
				}
			})
			// zstd keeps a window of 8 MiB, and the underlying store its buffers.
			if used > 16<<20 {
				t.Errorf("%s: %s of %d MiB allocated %d bytes, want at most 16 MiB", format, method, size>>20, used)
			}
		}
		must.Do(t, s.Close())
	}
}

func TestOptions(t *testing.T) {
	dict := partd.NewDict()
	s := newStore(t, dict, Zstd, nil)
	if _, ok := partd.As[partd.MemoryUser](s); !ok || s.Unwrap() != partd.Partd(dict) || s.Format() != Zstd {
		t.Errorf("As, Unwrap and Format returned %v, %T and %s, want the Dict's MemoryUser, the Dict and zstd", ok, s.Unwrap(), s.Format())
	}
	for _, c := range []struct {
		inner  partd.Partd
		format Format
		opts   Options
		want   string
	}{
		{nil, Zstd, Options{}, "is nil"},
		{dict, "lzma", Options{}, "unknown format"},
		{dict, Snappy, Options{Level: 1}, "no levels"},
		{dict, Zstd, Options{Level: 23}, "1 to 22"},
		{dict, S2, Options{Level: -1}, "1 to 3"},
		{dict, LZ4, Options{Level: 11}, "1 to 10"},
		{dict, Gzip, Options{Level: 10}, "1 to 9"},
		{dict, BZ2, Options{Level: 10}, "1 to 9"},
		{dict, Zlib, Options{TypeSize: 4}, "of blosc, not of zlib"},
		{dict, Blosc, Options{TypeSize: 300}, "1 to 255"},
		{dict, S2, Options{Limit: -1}, "a Limit of -1 bytes"},
		{dict, S2, Options{Limit: 1 << 31}, "a Limit of 2147483648 bytes"},
	} {
		if _, err := New(c.inner, c.format, &c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%s, %+v) = %v, want an error with %q", c.format, c.opts, err, c.want)
		}
	}
}

// TestLevels encodes and decodes with every level. The highest level must compress better than the lowest.
func TestLevels(t *testing.T) {
	for format, maxLevel := range map[Format]int{S2: 3, Zstd: 22, LZ4: 10, Zlib: 9, Gzip: 9, BZ2: 9, Blosc: 9} {
		if got := format.MaxLevel(); got != maxLevel {
			t.Errorf("%s.MaxLevel() = %d, want %d", format, got, maxLevel)
		}
		value := randomText(40_000)
		sizes := map[int]int{}
		for level := 1; level <= maxLevel; level++ {
			s := newStore(t, partd.NewDict(), format, &Options{Level: level})
			piece := must.Get(s.codec.encode(nil, value))(t)
			got, err := s.codec.decode(t.Context(), nil, piece)
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("%s, level %d: decoding returned %d bytes, error %v; want the %d encoded bytes", format, level, len(got), err, len(value))
			}
			sizes[level] = len(piece)
		}
		if sizes[maxLevel] >= sizes[1] && format != BZ2 { // BZ2's smallest block already holds the value
			t.Errorf("%s: level 1 compresses to %d bytes, and level %[4]d to %[3]d, want fewer", format, sizes[1], sizes[maxLevel], maxLevel)
		}
	}
}
