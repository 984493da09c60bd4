package tables_test

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestKeySetCollisions checks that find distinguishes keys with the same hash.
func TestKeySetCollisions(t *testing.T) {
	k := tables.NewKeySet(nil, 1<<20, false)
	for i, key := range []string{"a", "b", "", "ab"} {
		if row := k.Find(7, []byte(key)); row != 0 {
			t.Errorf("key %q is in row %d before it is added, want none", key, row)
		}
		if !k.Insert(7, append([]byte{byte(i + 1), byte(len(key))}, key...)) {
			t.Fatal("insert returned false, but there is enough memory")
		}
		if row := k.Find(7, []byte(key)); row != int64(i+1) {
			t.Errorf("key %q is in row %d, want row %d", key, row, i+1)
		}
	}
}

// TestUpsertMemory upserts PARTD_UPSERT_KEYS rows, half of which replace rows. It checks that memory stays below the
// default of Options.Memory. The keys of the default number of rows fit in memory.
func TestUpsertMemory(t *testing.T) {
	keys := int64(tabletest.Rounds(t, "PARTD_UPSERT_KEYS", 1_000_000))
	b := tabletest.BucketWithoutTail(t)
	columns := arrow.NewSchema([]arrow.Field{tabletest.Nullable("n", arrow.PrimitiveTypes.Int64), tabletest.Nullable("x", arrow.PrimitiveTypes.Float64)}, nil)
	// rows returns rows with the keys from first to first+keys-1, out of order.
	rows := func(first int64) array.RecordReader {
		return array.ReaderFromIter(columns, func(yield func(arrow.RecordBatch, error) bool) {
			const batchRows = 1 << 16
			for start := int64(0); start < keys; start += batchRows {
				builder := array.NewRecordBuilder(memory.DefaultAllocator, columns)
				for i := start; i < min(start+batchRows, keys); i++ {
					builder.Field(0).(*array.Int64Builder).Append(first + i*7_368_787%keys) // the prime makes the keys differ
					builder.Field(1).(*array.Float64Builder).Append(float64(i))
				}
				if !yield(builder.NewRecordBatch(), nil) {
					return
				}
			}
		})
	}
	start := time.Now()
	tabletest.PutRows(t, b, "t", rows(0), tables.PutAppend, nil)
	putTime := time.Since(start)
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	before, peak, done := live[0].Value.Uint64(), uint64(0), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case done <- true:
				return
			case <-time.After(5 * time.Millisecond):
				metrics.Read(live)
				peak = max(peak, live[0].Value.Uint64())
			}
		}
	}()
	start = time.Now()
	result, err := b.Table("t").Upsert(t.Context(), rows(keys/2), &tables.UpsertOptions{Keys: []string{"n"}})
	upsertTime := time.Since(start)
	<-done
	if err != nil || result.Written != keys || result.Deleted != keys-keys/2 {
		t.Fatalf("Upsert = %+v, %v; want Written %d and Deleted %d", result, err, keys, keys-keys/2)
	}
	t.Logf("%d keys: put %v, upsert %v, live heap %d MB", keys, putTime, upsertTime, (peak-before)>>20)
	if peak-before > 256<<20 {
		t.Errorf("the upsert used %d bytes, want at most %d", peak-before, 256<<20)
	}
}
