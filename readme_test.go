package partd_test

import (
	"context"
	"errors"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/stores"
)

// tour appends, reads, lists and drops, in the store that a URL names.
func tour(ctx context.Context, url string) (err error) {
	store, err := stores.Open(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partd.Close(ctx, store)) }()

	// All of these are added, or none, each to the end of its key's value.
	err = store.Append(ctx,
		partd.Entry{Key: "fruit", Value: []byte("apple, ")},
		partd.Entry{Key: "tree", Value: []byte("oak")},
		partd.Entry{Key: "fruit", Value: []byte("pear")},
	)
	if err != nil {
		return err
	}

	// A key that was never appended to has an empty value.
	values, err := store.Get(ctx, "fruit", "nothing")
	if err != nil {
		return err
	}
	fmt.Printf("%q\n", values)

	for key, err := range partd.Keys(ctx, store) {
		if err != nil {
			return err
		}
		fmt.Println(key.Key, key.Size)
	}
	return store.Drop(ctx)
}

// open makes a directory of files with 256 MiB of memory in front of it.
func open(dir string) (*partd.Buffer, error) {
	file, err := partd.OpenFile(dir, &partd.FileOptions{Sync: true})
	if err != nil {
		return nil, err
	}
	return partd.NewBuffer(partd.NewDict(), file, &partd.BufferOptions{Memory: 256 << 20})
}

func Example() {
	dir, err := os.MkdirTemp("", "partd")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := tour(context.Background(), "file:"+filepath.Join(dir, "store")); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// ["apple, pear" ""]
	// fruit 11
	// tree 3
}

func ExampleNewBuffer() {
	dir, err := os.MkdirTemp("", "partd")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	store, err := open(filepath.Join(dir, "store"))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := store.Append(ctx, partd.Entry{Key: "fruit", Value: []byte("apple")}); err != nil {
		fmt.Println(err)
	}
	if err := partd.Close(ctx, store); err != nil { // flushes the buffer, closes the files
		fmt.Println(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "store", "fruit"))
	fmt.Printf("%s %v\n", data, err)
	// Output: apple <nil>
}

// The Go code in the README is the code above.
func TestReadmeSnippets(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(readme), "```go\n")
	if len(parts) < 3 {
		t.Fatalf("%d snippets in the README", len(parts)-1)
	}
	for _, part := range parts[1:] {
		snippet, _, _ := strings.Cut(part, "```")
		if !strings.Contains(string(source), snippet) {
			t.Errorf("this is not in readme_test.go:\n%s", snippet)
		}
		if formatted, err := format.Source([]byte(snippet)); err != nil || string(formatted) != snippet {
			t.Errorf("not as gofmt writes it (%v):\n%s", err, snippet)
		}
	}
}
