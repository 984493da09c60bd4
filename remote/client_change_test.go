package remote

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/shuffle"
)

// discarding is a store that discards appended values.
type discarding struct{ partd.Partd }

func (discarding) Append(context.Context, ...partd.Entry) error { return nil }

// leastAllocated calls f several times, and returns the smallest number of bytes that a call allocates. It is not the
// mean, because buffers are lost while the machine is busy, and the race detector makes a sync.Pool lose values.
func leastAllocated(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 10 {
		least = min(least, procs.Allocated(f))
	}
	return least
}

// TestBatchesAllocateLittle checks that a task's batches of the recommended size reuse memory: in the writer, the
// client and the server. Otherwise most of the time of an append goes into new memory.
func TestBatchesAllocateLittle(t *testing.T) {
	_, url := serve(t, discarding{partd.NewDict()}, nil)
	client := dial(t, url, nil)
	w := must.Get(shuffle.Begin(ctx, client, "task", ""))(t)
	batch := make([]partd.Entry, 1024)
	for i := range batch {
		batch[i] = entry(fmt.Sprint(i), string(make([]byte, client.BatchBytes()/len(batch))))
	}
	const batches = 6
	n := leastAllocated(func() {
		for range batches {
			must.Do(t, w.Append(ctx, batch...))
		}
	})
	if n > batches*maxBatch*3/4 {
		t.Errorf("%d batches of %d bytes allocate %d bytes, want at most three quarters", batches, client.BatchBytes(), n)
	}
}

func liveHeap() int64 {
	runtime.GC()
	return procs.Heap()
}

// TestRefusedChangeKeepsNoMemory checks that a connection keeps no decoded entries of a change that it refused.
func TestRefusedChangeKeepsNoMemory(t *testing.T) {
	_, url := serve(t, partd.NewDict(), nil)
	c := dial(t, url, nil)
	before := liveHeap()
	req := newCall(opAppend)
	req.appendEntries(make([]partd.Entry, 1<<20))
	req.buf = append(req.buf, 'x')
	must.Fail(t, c.do(ctx, req), ErrBadRequest, "an append with an extra byte")
	req.buf = nil
	must.Get(c.Stat(ctx))(t) // the server has then dropped the message
	if growth := liveHeap() - before; growth > 16<<20 {
		t.Errorf("after a refused append of 2^20 entries, the heap has %d MiB more", growth>>20)
	}
}

// TestPopOfTooFewValues checks that a reply to Pop must have a value for each key.
func TestPopOfTooFewValues(t *testing.T) {
	if values, err := parsePopped(make([]byte, 4), 1); err == nil {
		t.Errorf("a reply without values for one key was parsed as %q", values)
	}
}
