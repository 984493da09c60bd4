package partd

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
)

// gatedSets is a store whose Set waits until the key's gate opens.
type gatedSets struct {
	*Dict
	gates map[string]chan struct{}
}

func (s gatedSets) Set(ctx context.Context, key string, value []byte) error {
	<-s.gates[key]
	return s.Dict.Set(ctx, key, value)
}

// TestBufferWaitsForRoomWithoutAPlace lets an Append wait for two keys, while one
// of them grows so large that it has to move before the Append can go on. What
// moves it waits its turn at the key: the Append must have given up its own.
func TestBufferWaitsForRoomWithoutAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		gates := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{}), "c": make(chan struct{})}
		b, err := NewBuffer(NewDict(), gatedSets{NewDict(), gates}, &BufferOptions{Memory: 128 << 10})
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
		half := bytes.Repeat([]byte("x"), b.step/2+1)
		set := func(key string) { // holds the key until its gate opens
			begin(func() error { return b.Set(ctx, key, []byte("set")) })
		}
		set("c")
		begin(func() error { return b.Append(ctx, Entry{"a", half}, Entry{"c", []byte("x")}) })
		set("a")
		set("b")
		begin(func() error { return b.Append(ctx, Entry{"a", half}, Entry{"b", []byte("x")}) })
		for _, key := range []string{"a", "c", "b"} {
			close(gates[key]) // the first Append takes a and c before the second has b
			synctest.Wait()
		}
		wg.Wait()
		wantValue(t, b, "a", "set"+string(half)+string(half))
		must(t, b.Close())
	})
}
