package remote

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

// discarding is a store that discards appended values.
type discarding struct{ partd.Partd }

func (discarding) Append(context.Context, ...partd.Entry) error { return nil }

// TestBatchesAllocateLittle checks that a task's batches of the recommended size reuse memory: in the writer, the
// client and the server. Otherwise most of the time of an append goes into new memory.
func TestBatchesAllocateLittle(t *testing.T) {
	_, url := serve(t, discarding{partd.NewDict()}, nil)
	client := dial(t, url, nil)
	w := must.Get(shuffle.Begin(t.Context(), client, "task", ""))(t)
	batch := make([]partd.Entry, 1024)
	for i := range batch {
		batch[i] = entry(fmt.Sprint(i), string(make([]byte, client.BatchBytes()/len(batch))))
	}
	var before, after runtime.MemStats
	const batches = 60
	for i := range batches + 5 {
		if i == 5 {
			runtime.ReadMemStats(&before)
		}
		must.Do(t, w.Append(t.Context(), batch...))
	}
	runtime.ReadMemStats(&after)
	// The race detector makes a sync.Pool lose a quarter of its values.
	if n := (after.TotalAlloc - before.TotalAlloc) / batches; n > maxBatch*3/4 {
		t.Errorf("a batch of %d bytes allocates %d bytes, want at most three quarters", client.BatchBytes(), n)
	}
}
