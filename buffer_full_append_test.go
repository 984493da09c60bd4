package partd

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
)

// gatedStore is a store whose Set waits until the key's channel in gates is closed.
type gatedStore struct {
	*Dict
	gates map[string]chan struct{}
}

func (s gatedStore) Set(ctx context.Context, key string, value []byte) error {
	<-s.gates[key]
	return s.Dict.Set(ctx, key, value)
}

// TestBufferFullAppendLeavesQueue makes an Append wait for two keys. Then one of the keys
// grows so large that it must move to the slow store first. The flush queues for that key, so the Append must
// leave the key's queue, or both would wait forever.
func TestBufferFullAppendLeavesQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		gates := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{}), "c": make(chan struct{})}
		b, err := NewBuffer(NewDict(), gatedStore{NewDict(), gates}, &BufferOptions{Memory: 128 << 10})
		must(t, err)
		var wg sync.WaitGroup
		begin := func(op func() error) {
			wg.Go(func() {
				if err := op(); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		half := bytes.Repeat([]byte("x"), b.moveSize/2+1)
		set := func(key string) { // holds the key until its channel is closed
			begin(func() error { return b.Set(ctx, key, []byte("set")) })
		}
		set("c")
		begin(func() error { return b.Append(ctx, Entry{"a", half}, Entry{"c", []byte("x")}) })
		set("a")
		set("b")
		begin(func() error { return b.Append(ctx, Entry{"a", half}, Entry{"b", []byte("x")}) })
		for _, key := range []string{"a", "c", "b"} {
			close(gates[key]) // the first Append gets a and c before the second gets b
			synctest.Wait()
		}
		wg.Wait()
		wantValue(t, b, "a", "set"+string(half)+string(half))
		must(t, b.Close())
	})
}
