package arrowvalue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
)

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "cat", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int16), Nullable: true},
	{Name: "none", Type: arrow.Null, Nullable: true},
}, nil)

func newBatch(t testing.TB, first, n int) arrow.RecordBatch {
	t.Helper()
	var b strings.Builder
	for i := first; i < first+n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"s":"text %d","cat":"c%d","l":[%d,null]},`, i, i, i%7, i%100)
	}
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+strings.TrimSuffix(b.String(), ",")+"]"))
	must.Do(t, err)
	return batch
}

// readRows returns each row of a key as text.
func readRows(ctx context.Context, store partd.Partd, key string, limit int64) (lines []string, err error) {
	r, err := read(ctx, store, key, limit)
	if err != nil {
		return nil, err
	}
	for r.Next() {
		batch := r.RecordBatch()
		for i := range int(batch.NumRows()) {
			var values []string
			for _, c := range batch.Columns() {
				values = append(values, c.ValueStr(i))
			}
			lines = append(lines, strings.Join(values, " "))
		}
	}
	r.Release()
	return lines, r.Err()
}

// appendBatches appends batches of one schema to a key.
func appendBatches(ctx context.Context, store partd.Partd, key string, batches ...arrow.RecordBatch) error {
	e, err := Entry(key, batches[0].Schema(), batches...)
	if err != nil {
		return err
	}
	return store.Append(ctx, e)
}

func TestNilBatch(t *testing.T) {
	if _, err := Entry("k", schema, newBatch(t, 0, 1), nil); !errors.Is(err, errSchema) {
		t.Errorf("Entry with a nil batch: error = %v, want errSchema", err)
	}
}

func TestAppendAndRead(t *testing.T) {
	log := must.Get(logstore.Open(t.TempDir(), nil))(t)
	defer func() { must.Do(t, log.Close()) }()
	for name, store := range map[string]partd.Partd{"dict": partd.NewDict(), "log": log} {
		ctx := t.Context()
		if _, err := readRows(ctx, store, "k", readLimit); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: readRows of a missing key: error = %v, want fs.ErrNotExist", name, err)
		}
		var want []string
		for i := range 50 {
			must.Do(t, appendBatches(ctx, store, "k", newBatch(t, i*3, 3)))
			for k := i * 3; k < i*3+3; k++ {
				want = append(want, fmt.Sprintf("%d text %d c%d [%d,null] (null)", k, k, k%7, k%100))
			}
		}
		got, err := readRows(ctx, store, "k", readLimit)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got rows\n%v\nwant\n%v\nerror: %v", name, got, want, err)
		}
		otherBatch := array.NewRecordBatch(arrow.NewSchema(schema.Fields()[:1], nil), newBatch(t, 0, 1).Columns()[:1], 1)
		if err := appendBatches(ctx, store, "many", newBatch(t, 0, 1), otherBatch); !errors.Is(err, errSchema) {
			t.Errorf("appendBatches of batches with different schemas: error = %v, want errSchema", err)
		}
		must.Do(t, appendBatches(ctx, store, "many", newBatch(t, 0, 1)))
		must.Do(t, appendBatches(ctx, store, "many", otherBatch))
		if _, err := readRows(ctx, store, "many", readLimit); !errors.Is(err, errSchema) {
			t.Errorf("readRows of batches with different schemas: error = %v, want errSchema", err)
		}
		e, err := Entry("none", schema)
		if err == nil {
			err = store.Append(ctx, e)
		}
		if got, e := readRows(ctx, store, "none", readLimit); err != nil || e != nil || len(got) != 0 {
			t.Errorf("readRows of an entry without rows = %+v; Append error %v, readRows error %+v; want no rows and no error", got, err, e)
		}
	}
}

func sampleValue(t testing.TB) []byte {
	t.Helper()
	store := partd.NewDict()
	for i := range 3 {
		must.Do(t, appendBatches(t.Context(), store, "k", newBatch(t, i, 2)))
	}
	v := must.Get(store.Get(t.Context(), "k"))(t)
	return v[0]
}

func readBytes(ctx context.Context, v []byte, limit int64) ([]string, error) {
	store := partd.NewDict()
	if err := store.Append(ctx, partd.Entry{Key: "k", Value: v}); err != nil {
		return nil, err
	}
	return readRows(ctx, store, "k", limit)
}

// TestTruncatedValue checks that Read rejects a value that ends within a frame, and a frame with data after the end
// of its stream.
func TestTruncatedValue(t *testing.T) {
	v := sampleValue(t)
	isFrameEnd := map[int]bool{len(v): true}
	for offset := 0; offset < len(v); offset += frame.HeaderLen + int(binary.LittleEndian.Uint64(v[offset:])) {
		isFrameEnd[offset] = true
	}
	for n := 1; n <= len(v); n++ {
		if got, err := readBytes(t.Context(), v[:n], readLimit); (err == nil) != isFrameEnd[n] {
			t.Fatalf("reading %d of %d bytes returned %d rows, error %v; want success: %v", n, len(v), len(got), err, isFrameEnd[n])
		}
	}
	first := v[frame.HeaderLen : frame.HeaderLen+int(binary.LittleEndian.Uint64(v))]
	if got, err := readBytes(t.Context(), frame.Append(nil, append(bytes.Clone(first), first...)), readLimit); err == nil {
		t.Errorf("reading a frame with two streams returned %d rows without an error", len(got))
	}
	for n := range len(first) - 8 { // a stream without its 8-byte end marker is valid
		if got, err := readBytes(t.Context(), frame.Append(nil, first[:n]), readLimit); err == nil && len(got) != 0 {
			t.Errorf("reading %d of a stream's %d bytes returned %d rows without an error", n, len(first), len(got))
		}
	}
	end := []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}
	for _, bad := range [][]byte{frame.Append(nil, nil), frame.Append(nil, []byte{0}), frame.Append(nil, end), frame.Append(nil, append([]byte{1}, 0, 0, 0, 0)), frame.Append(bytes.Clone(v), []byte{1, 2})} {
		if _, err := readBytes(t.Context(), bad, readLimit); err == nil {
			t.Errorf("reading %v succeeded, want an error", bad)
		}
	}
	if _, err := readBytes(t.Context(), v, 1000); err == nil {
		t.Error("reading more than the limit succeeded, want an error")
	}
}

// TestDecompressionLimit checks that a compressed batch whose decompressed size exceeds the limit is an error.
func TestDecompressionLimit(t *testing.T) {
	var stream bytes.Buffer
	zeros := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(make([]int64, 1<<20), nil)
	w := ipc.NewWriter(&stream, ipc.WithSchema(zeros), ipc.WithZstd())
	must.Do(t, w.Write(array.NewRecordBatch(zeros, []arrow.Array{b.NewArray()}, 1<<20)))
	v := frame.Append(nil, stream.Bytes())
	must.Get(readBytes(t.Context(), v, 16<<20))(t)
	if _, err := readBytes(t.Context(), v, 1<<20); err == nil || !strings.Contains(err.Error(), "over the limit") {
		t.Errorf("reading 8 MiB with a limit of 1 MiB: error = %v, want \"over the limit\"", err)
	}
}

// TestCorruptBytes checks that reading corrupt bytes returns rows or an error, and never panics.
func TestCorruptBytes(t *testing.T) {
	v := sampleValue(t)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 2))
	for range 5000 {
		bad := bytes.Clone(v)
		for range 1 + random.IntN(3) {
			bad[random.IntN(len(bad))] = []byte{0, 1, 0x7f, 0x80, 0xff, byte(random.Uint32())}[random.IntN(6)]
		}
		func() {
			defer func() {
				if p := recover(); p != nil {
					t.Fatalf("seed %d: reading panics: %v\n%s", seed, p, debug.Stack())
				}
			}()
			_, _ = readBytes(t.Context(), bad, 1<<20)
		}()
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sampleValue(f))
	f.Fuzz(func(t *testing.T, v []byte) { _, _ = readBytes(t.Context(), v, 1<<20) })
}
