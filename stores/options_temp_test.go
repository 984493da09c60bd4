package stores_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
)

var temporaryStores = map[string]func(dir string) (partd.Partd, error){
	"file": func(dir string) (partd.Partd, error) { return partd.OpenTemp(dir) },
	"log": func(dir string) (partd.Partd, error) {
		return logstore.OpenTemp(dir, &logstore.Options{Memory: logstore.MinMemory})
	},
}

// TestTemporaryStore checks that Close removes the store's directory, and that opening a store
// removes the directories of dead processes.
func TestTemporaryStore(t *testing.T) {
	if kind := os.Getenv("PARTD_TEST_TEMP"); kind != "" {
		store := must.Get(temporaryStores[kind](os.Getenv("PARTD_TEST_DIR")))(t)
		must.Do(t, store.Append(context.Background(), partd.Entry{Key: "k", Value: []byte("v")}))
		os.Exit(0) // without Close
	}
	for kind, open := range temporaryStores {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			dir := t.TempDir()
			child := exec.Command(os.Args[0], "-test.run=^TestTemporaryStore$")
			child.Env = append(os.Environ(), "PARTD_TEST_TEMP="+kind, "PARTD_TEST_DIR="+dir)
			if out, err := child.CombinedOutput(); err != nil {
				t.Fatalf("the child process failed: %v\n%s", err, out)
			}
			leftovers := entries(t, dir)
			if len(leftovers) != 2 {
				t.Fatalf("a process that did not close its store left %q, want a directory and its lock", leftovers)
			}
			store := must.Get(open(dir))(t)
			for _, name := range entries(t, dir) {
				if strings.TrimSuffix(name, ".lock") == strings.TrimSuffix(leftovers[0], ".lock") {
					t.Errorf("opening a store did not remove %s of a dead process", name)
				}
			}
			must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}))
			must.Do(t, partd.Close(ctx, store))
			if rest := entries(t, dir); len(rest) > 0 {
				t.Errorf("after Close, the directory contains %q, want nothing", rest)
			}
			must.Fail(t, store.Append(ctx, partd.Entry{Key: "k"}), partd.ErrClosed, "Append after Close")
			must.Fail(t, must.Err(open(filepath.Join(dir, "missing"))), os.ErrNotExist, "OpenTemp in a missing directory")
		})
	}
}

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list := must.Get(os.ReadDir(dir))(t)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
