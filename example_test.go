package partd_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// check panics if err is not nil. A real program would return the error instead.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Goroutines append numbers to two keys, and then each key is read once. Any store works, such as one from
// logstore.Open or stores.Open.
func Example() {
	ctx := context.Background()
	store := partd.NewDict()

	var wait sync.WaitGroup
	for first := range 3 {
		wait.Go(func() {
			for i := first; i < 12; i += 3 {
				key := []string{"even", "odd"}[i%2]
				check(store.Append(ctx, partd.Entry{Key: key, Value: fmt.Appendf(nil, "%03d ", i)}))
			}
		})
	}
	wait.Wait()

	for key, err := range partd.Keys(ctx, store) {
		check(err)
		values, err := store.Get(ctx, key.Key)
		check(err)
		fmt.Println(key.Key, len(values[0])/len("000 "), "numbers")
	}
	// Unordered output:
	// even 6 numbers
	// odd 6 numbers
}

// A directory with a file per key can be shared with other processes, including Python's partd.
func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "partd")
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()

	store, err := partd.OpenFile(filepath.Join(dir, "store"), &partd.FileOptions{Sync: true})
	check(err)
	check(store.Append(ctx, // stores both values or neither, even after a power failure
		partd.Entry{Key: "fruit", Value: []byte("apple")},
		partd.Entry{Key: "tree", Value: []byte("oak")},
	))
	check(store.Close())

	data, err := os.ReadFile(filepath.Join(dir, "store", "fruit"))
	fmt.Printf("%s %v\n", data, err)
	// Output: apple <nil>
}

// A buffer collects small appends in memory in front of a directory.
func ExampleNewBuffer() {
	dir, err := os.MkdirTemp("", "partd")
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()

	file, err := partd.OpenFile(dir, nil)
	check(err)
	store, err := partd.NewBuffer(partd.NewDict(), file, &partd.BufferOptions{Memory: 256 << 20})
	check(err)
	check(store.Append(ctx, partd.Entry{Key: "fruit", Value: []byte("apple")}))
	check(store.Close()) // flushes the buffer and closes the files

	data, err := os.ReadFile(filepath.Join(dir, "fruit"))
	fmt.Printf("%s %v\n", data, err)
	// Output: apple <nil>
}

// A chunk of a scan can end within a record. Values turns the chunks of each key into a reader, here of frames.
func ExampleValues() {
	ctx := context.Background()
	store := partd.NewDict()
	long := bytes.Repeat([]byte("long "), 100_000) // longer than a chunk
	check(store.Append(ctx, partd.Entry{Key: "a", Value: frame.Append(frame.Append(nil, long), []byte("short"))}))

	for value, err := range partd.Values(partd.ScanPart(ctx, store, 0, 1)) {
		check(err)
		for record, err := range frame.Read(value, 0) {
			check(err)
			fmt.Println(value.Key, len(record))
		}
	}
	// Output:
	// a 500000
	// a 5
}
