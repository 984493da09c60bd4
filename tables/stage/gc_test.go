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

func names(t testing.TB, r *stage.Results) string {
	t.Helper()
	all, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Stage)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// GC removes what is old, but not what a result needs that is young, nor what a pipeline
// needs that lives.
func TestGC(t *testing.T) {
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collectedAt(t, place)
		})
	}
}

func collectedAt(t *testing.T, place func(testing.TB) *stage.Options) {
	recipe, dir := newRecipe(t), t.TempDir()
	r := open(t, dir, place(t))
	now := time.Now()
	stage.SetNow(r, func() time.Time { return now })
	recipe.keep = func(name string) bool { return name != "double" } // between last and load
	run(t, r, recipe.pipeline())
	now = now.Add(time.Hour)
	recipe.source["last.go"] = &fstest.MapFile{Data: []byte("package p")}
	run(t, r, recipe.pipeline())
	recipe.ran.take()
	// The first last is old; load and text are, too, and the second last needs them.
	collect := func(want string, o *stage.GCOptions, stay string) {
		t.Helper()
		done, err := r.GC(t.Context(), o)
		if got := fmt.Sprint(done.Removed, done.Left); err != nil || got != want {
			t.Errorf("got %s, want %s: %v", got, want, err)
		}
		if got := names(t, r); got != stay {
			t.Errorf("left %s, want %s", got, stay)
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
	recipe.factor = 7 // the old last goes, what the new one needs stays
	collect("1 2", &stage.GCOptions{TTL: time.Hour, Live: []stage.Any{recipe.pipeline()}}, "load text")
	collect("2 0", &stage.GCOptions{TTL: time.Hour}, "")
	for _, name := range []string{"tmp", "files", "locks"} {
		if found, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(found) > 0 {
			t.Error(name, found, err)
		}
	}
	run(t, r, recipe.pipeline())
}

// GC leaves what somebody computes, and the files that a run uses.
func TestGCLeavesWhatIsUsed(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r, other := open(t, dir, nil), open(t, dir, nil)
	later := time.Now().Add(time.Hour)
	stage.SetNow(other, func() time.Time { return later })
	recipe.before = func(name string) error {
		if name == "last" {
			_, err := other.GC(context.Background(), &stage.GCOptions{TTL: time.Minute})
			return err
		}
		return nil
	}
	if got := run(t, r, recipe.pipeline()); got != wanted {
		t.Error(got)
	}
	if got := names(t, r); got != "last text" {
		t.Error(got)
	}
}
