package logstore_test

import (
	"context"
	"fmt"
	"os"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// check ends an example if err is not nil. A real program would return the error instead.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Append pieces to several keys, and then read all values, grouped by key.
func Example() {
	dir, err := os.MkdirTemp("", "logstore")
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()

	store, err := logstore.Open(dir, &logstore.Options{Memory: 64 << 20})
	check(err)
	for i := range 6 {
		key := []string{"even", "odd"}[i%2]
		check(store.Append(ctx, partd.Entry{Key: key, Value: fmt.Appendf(nil, "%d,", i)}))
	}
	for chunk, err := range store.Scan(ctx) {
		check(err)
		fmt.Printf("%s: %s\n", chunk.Key, chunk.Data)
	}
	check(store.Close())
	// Unordered output:
	// even: 0,2,4,
	// odd: 1,3,5,
}

// A client that does not know whether an append took effect retries it with the same number.
func ExampleStore_Apply() {
	dir, err := os.MkdirTemp("", "logstore")
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()

	store, err := logstore.Open(dir, nil)
	check(err)
	defer store.Close()
	session, err := store.NewSession(ctx)
	check(err)
	op := partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: "k", Value: []byte("once")}}}
	for range 2 {
		applied, err := store.Apply(ctx, partd.Tag{Session: session, Number: 1, CRC: 0x5eed}, op)
		check(err)
		fmt.Println(applied)
	}
	values, err := store.Get(ctx, "k")
	check(err)
	fmt.Printf("%s\n", values[0])
	// Output:
	// true
	// false
	// once
}
