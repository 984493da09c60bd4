package storekit_test

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// meter is a layer that counts the bytes of all values that are written and read.
type meter struct {
	storekit.Layer
	written, read counter
}

type counter struct{ atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.Add(int64(len(p)))
	return len(p), nil
}

func newMeter(store partd.Partd) *meter {
	m := new(meter)
	m.Layer = storekit.NewLayer(store, storekit.Hooks{
		Name: "meter",
		In: func(_ context.Context, _ string, _, value []byte) ([]byte, error) {
			m.written.Add(int64(len(value)))
			return value, nil // store what was written
		},
		Out: func(_ context.Context, _ string, stored io.Reader) io.Reader {
			return io.TeeReader(stored, &m.read)
		},
		SameSize: true,
	})
	return m
}

// A layer embeds Layer and gives it two hooks. It then has every ability of the store beneath.
func ExampleLayer() {
	ctx := context.Background()
	m := newMeter(partd.NewDict())
	fmt.Println(m.Append(ctx, partd.Entry{Key: "a", Value: []byte("12345")}), partd.Set(ctx, m, "b", []byte("67")))
	for chunk, err := range partd.Scan(ctx, m) {
		fmt.Printf("%s=%s %v\n", chunk.Key, chunk.Data, err)
	}
	fmt.Println(partd.Sync(ctx, m))
	fmt.Println(m.written.Load(), "bytes written,", m.read.Load(), "read")
	// Unordered output:
	// <nil> <nil>
	// a=12345 <nil>
	// b=67 <nil>
	// partd: sync: *partd.Dict: unsupported operation
	// 7 bytes written, 7 read
}
