package partd_test

import (
	"context"
	"errors"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/stores"
)

// openLog makes the store that is fast with any number of keys, as
// stores.Open(ctx, "log:DIR?memory=256MiB&compression=zstd") does.
func openLog(dir string) (*logstore.Store, error) {
	return logstore.Open(dir, &logstore.Options{Memory: 256 << 20, Compression: logstore.Zstd})
}

// open makes a directory of files with 256 MiB of memory in front of it.
func open(dir string) (*partd.Buffer, error) {
	file, err := partd.OpenFile(dir, &partd.FileOptions{Sync: true})
	if err != nil {
		return nil, err
	}
	return partd.NewBuffer(partd.NewDict(), file, &partd.BufferOptions{Memory: 256 << 20})
}

// The store that the README's function opens is the one that its URL opens.
func TestReadmeLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	made, err := openLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := errors.Join(made.Append(ctx, partd.Entry{Key: "fruit", Value: []byte("apple")}), made.Close()); err != nil {
		t.Fatal(err)
	}
	store, err := stores.Open(ctx, "log:"+dir+"?memory=256MiB&compression=zstd")
	if err != nil {
		t.Fatal(err)
	}
	values, err := store.Get(ctx, "fruit")
	if err = errors.Join(err, partd.Close(ctx, store)); err != nil || string(values[0]) != "apple" {
		t.Errorf("%q, %v", values, err)
	}
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

// snippets returns the Go code in the README.
func snippets(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(readme), "```go\n")
	if len(parts) != 4 {
		t.Fatalf("%d snippets in the README, want a program and three functions", len(parts)-1)
	}
	for i, part := range parts {
		parts[i], _, _ = strings.Cut(part, "```")
	}
	return parts[1:]
}

// The program in the README runs as it is, and writes what it says.
func TestReadmeProgram(t *testing.T) {
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte(snippets(t)[0]), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for range 2 { // it drops what it made
		cmd := exec.Command(program)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		lines := strings.Split(string(out), "\n")
		slices.Sort(lines)
		if want := []string{"", `["apple, pear" ""]`, "fruit 11", "tree 3"}; err != nil || !slices.Equal(lines, want) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// The other Go code in the README is the code above, and in the examples of
// package shuffle, and all of it is formatted.
func TestReadmeSnippets(t *testing.T) {
	var source []byte
	for _, name := range []string{"readme_test.go", "shuffle/example_test.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	for i, snippet := range snippets(t) {
		if i > 0 && !strings.Contains(string(source), snippet) {
			t.Errorf("this is not in readme_test.go:\n%s", snippet)
		}
		if formatted, err := format.Source([]byte(snippet)); err != nil || string(formatted) != snippet {
			t.Errorf("not as gofmt writes it (%v):\n%s", err, snippet)
		}
	}
}
