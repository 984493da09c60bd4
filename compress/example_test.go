package compress_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
)

// A layer works over any store. It compresses appended values and returns them decompressed.
func Example() {
	ctx := context.Background()
	dict := partd.NewDict()
	store, err := compress.New(dict, compress.Zstd, nil)
	if err != nil {
		log.Fatal(err)
	}
	text := strings.Repeat("the same words, ", 1000)
	if err := store.Append(ctx, partd.Entry{Key: "text", Value: []byte(text)}); err != nil {
		log.Fatal(err)
	}
	values, err := store.Get(ctx, "text")
	if err != nil {
		log.Fatal(err)
	}
	stored, err := dict.Get(ctx, "text")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(values[0]) == text, len(text), len(stored[0]) < 100)
	// Output: true 16000 true
}

// Small appends compress badly one by one. A buffer above the layer combines them.
func Example_buffer() {
	ctx := context.Background()
	dict := partd.NewDict()
	layer, err := compress.New(dict, compress.Snappy, nil)
	if err != nil {
		log.Fatal(err)
	}
	store, err := partd.NewBuffer(partd.NewDict(), layer, nil)
	if err != nil {
		log.Fatal(err)
	}
	for range 1000 {
		if err := store.Append(ctx, partd.Entry{Key: "k", Value: []byte("small piece, ")}); err != nil {
			log.Fatal(err)
		}
	}
	if err := store.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	stored, err := dict.Get(ctx, "k")
	if err != nil {
		log.Fatal(err)
	}
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
