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

// GC removes old results, unless a younger result or a live pipeline needs them.
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
	recipe.ran.take()
	// The first result of last is old. So are load and text, but the second result of last needs
	// them.
	collect := func(want string, o *stage.GCOptions, remaining string) {
		t.Helper()
		result, err := r.GC(t.Context(), o)
		if got := fmt.Sprint(result.Removed, result.Remaining); err != nil || got != want {
			t.Errorf("got %s, want %s: %v", got, want, err)
		}
		if got := storedStages(t, r); got != remaining {
			t.Errorf("remaining results %s, want %s", got, remaining)
		}
	}
	collect("0 4", nil, "last last load text")
	collect("0 4", &stage.GCOptions{TTL: 2 * time.Hour}, "last last load text")
	collect("1 3", &stage.GCOptions{TTL: time.Hour}, "last load text")
	now = now.Add(2 * time.Hour)
	collect("0 3", &stage.GCOptions{TTL: time.Hour, Live: []stage.Any{recipe.pipeline()}}, "last load text")
	if got := run(t, r, recipe.pipeline()); got != wanted || recipe.ran.take() != "" {
		t.Error(got)
	}
	recipe.factor = 7 // the old result of last goes, the ancestors of the new one stay
	collect("1 2", &stage.GCOptions{TTL: time.Hour, Live: []stage.Any{recipe.pipeline()}}, "load text")
	collect("2 0", &stage.GCOptions{TTL: time.Hour}, "")
	for _, name := range []string{"tmp", "files", "locks"} {
		if found, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(found) > 0 {
			t.Error(name, found, err)
		}
	}
	run(t, r, recipe.pipeline())
}

// GC keeps results that are being computed, and the files that a run uses.
func TestGCKeepsUsedResults(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r, other := open(t, dir, nil), open(t, dir, nil)
	later := time.Now().Add(time.Hour)
	stage.SetNow(other, func() time.Time { return later })
	recipe.onRun = func(name string) error {
		if name == "last" {
			_, err := other.GC(context.Background(), &stage.GCOptions{TTL: time.Minute})
			return err
		}
		return nil
	}
	if got := run(t, r, recipe.pipeline()); got != wanted {
		t.Error(got)
	}
	if got := storedStages(t, r); got != "last text" {
		t.Error(got)
	}
}
