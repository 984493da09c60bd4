package stage_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/stage"
)

func storedStages(t testing.TB, r *stage.Results) string {
	t.Helper()
	results, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range results {
		names = append(names, i.Stage)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestGC checks that GC removes old results, unless a younger result or a live pipeline needs them.
func TestGC(t *testing.T) {
	for name, newOptions := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testGC(t, newOptions)
		})
	}
}

func testGC(t *testing.T, newOptions func(testing.TB) *stage.Options) {
	recipe, dir := newRecipe(t), t.TempDir()
	r := open(t, dir, newOptions(t))
	now := time.Now()
	stage.SetNow(r, func() time.Time { return now })
	recipe.isCached = func(name string) bool { return name != "double" } // the stage between last and load
	run(t, r, recipe.pipeline())
	now = now.Add(time.Hour)
	recipe.source["last.go"] = &fstest.MapFile{Data: []byte("package p")}
	run(t, r, recipe.pipeline())
	recipe.runs.take()
	// The first result of last is now old. The results of load and text are also old, but the second result of
	// last needs them.
	collect := func(want string, o *stage.GCOptions, remaining string) {
		t.Helper()
		result, err := r.GC(t.Context(), o)
		if got := fmt.Sprint(result.Removed, result.Remaining); err != nil || got != want {
			t.Errorf("GC = %s, %v, want %s (removed and remaining results)", got, err, want)
		}
		if got := storedStages(t, r); got != remaining {
			t.Errorf("the remaining results are %s, want %s", got, remaining)
		}
	}
	collect("0 4", nil, "last last load text")
	collect("0 4", &stage.GCOptions{TTL: 2 * time.Hour}, "last last load text")
	collect("1 3", &stage.GCOptions{TTL: time.Hour}, "last load text")
	now = now.Add(2 * time.Hour)
	collect("0 3", &stage.GCOptions{TTL: time.Hour, Live: []stage.Any{recipe.pipeline()}}, "last load text")
	if got := run(t, r, recipe.pipeline()); got != wantResult || recipe.runs.take() != "" {
		t.Errorf("after GC, the pipeline returned %s, want the stored result %s without running a stage", got, wantResult)
	}
	recipe.factor = 7 // GC must remove the old result of last, and keep the ancestors that the new result needs
	collect("1 2", &stage.GCOptions{TTL: time.Hour, Live: []stage.Any{recipe.pipeline()}}, "load text")
	collect("2 0", &stage.GCOptions{TTL: time.Hour}, "")
	for _, name := range []string{"tmp", "files", "locks"} {
		if leftovers, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(leftovers) > 0 {
			t.Errorf("after GC, directory %s contains %v, %v, want nothing", name, leftovers, err)
		}
	}
	run(t, r, recipe.pipeline())
}

// TestGCKeepsUsedResults checks that GC keeps results that are being computed, and the files that a run uses.
func TestGCKeepsUsedResults(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r, second := open(t, dir, nil), open(t, dir, nil)
	later := time.Now().Add(time.Hour)
	stage.SetNow(second, func() time.Time { return later })
	recipe.onRun = func(name string) error {
		if name == "last" {
			_, err := second.GC(context.Background(), &stage.GCOptions{TTL: time.Minute})
			return err
		}
		return nil
	}
	if got := run(t, r, recipe.pipeline()); got != wantResult {
		t.Errorf("with a concurrent GC, the pipeline returned %s, want %s", got, wantResult)
	}
	if got := storedStages(t, r); got != "last text" {
		t.Errorf("the stored results are %s, want last text", got)
	}
}

// TestForeignKeys checks that GC does not remove other programs' keys from the store.
func TestForeignKeys(t *testing.T) {
	store := partd.NewDict()
	r := open(t, t.TempDir(), &stage.Options{Store: store})
	for _, key := range []string{"logs/data/2024.csv", "a/info"} {
		if err := store.Append(t.Context(), partd.Entry{Key: key, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.GC(t.Context(), nil); err != nil {
			t.Errorf("GC failed: %v", err)
		}
		if got, err := store.Get(t.Context(), key); err != nil || string(got[0]) != "v" {
			t.Errorf("key %s has the value %q, %v, want v", key, got, err)
		}
	}
}
