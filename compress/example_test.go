package compress_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
)

// check ends an example if err is not nil. A real program would return the error instead.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A layer works over any store. It compresses appended values and returns them decompressed.
func Example() {
	ctx := context.Background()
	dict := partd.NewDict()
	store, err := compress.New(dict, compress.Zstd, nil)
	check(err)
	text := strings.Repeat("the same words, ", 1000)
	check(store.Append(ctx, partd.Entry{Key: "text", Value: []byte(text)}))
	values, err := store.Get(ctx, "text")
	check(err)
	stored, err := dict.Get(ctx, "text")
	check(err)
	fmt.Println(string(values[0]) == text, len(text), len(stored[0]) < 100)
	// Output: true 16000 true
}

// Small appends compress badly one by one. A buffer above the layer combines them.
func Example_buffer() {
	ctx := context.Background()
	dict := partd.NewDict()
	layer, err := compress.New(dict, compress.Snappy, nil)
	check(err)
	store, err := partd.NewBuffer(partd.NewDict(), layer, nil)
	check(err)
	for range 1000 {
		check(store.Append(ctx, partd.Entry{Key: "k", Value: []byte("small piece, ")}))
	}
	check(store.Flush(ctx))
	stored, err := dict.Get(ctx, "k")
	check(err)
	fmt.Println(len(stored[0]) < 1000)
	// Output: true
}

func ExampleNew() {
	store, err := compress.New(partd.NewDict(), compress.Zstd, &compress.Options{
		Level: 10,
		Limit: 64 << 20, // no piece decompresses to more than 64 MiB
	})
	fmt.Println(store.Format(), err)
	// Output: zstd <nil>
}
