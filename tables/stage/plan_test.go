package stage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/stage"
)

// TestChanges checks that after a change, only the affected stage and its descendants run, and that Plan
// predicts this.
func TestChanges(t *testing.T) {
	recipe := newRecipe(t)
	r := open(t, t.TempDir(), nil)
	set := func(name, text string) func() {
		return func() { recipe.source[name+".go"] = &fstest.MapFile{Data: []byte(text)} }
	}
	file := strings.Replace(recipe.raw, "*", "1", 1)
	old := time.Now().Add(-time.Hour)
	for _, c := range []struct {
		name     string
		change   func()
		wantRan  string
		wantPlan string
	}{
		{"first run", func() {}, "double 1, last 1, load 1, text 1", "load runs it never ran"},
		{"no change", func() {}, "", "load kept; double kept; text kept; last kept"},
		{"comments", set("load", strings.NewReplacer("numbers", "all", "the first", "1st").Replace(code)), "", "load kept"},
		{"white space", set("load", "package  p\n\n\n\nfunc load(x  ...int)  int {\n\n\treturn x [ 0 ]\n}\n"), "", "load kept"},
		{"order of code", set("double", code+"var b = 1; var a = 2"), "double 1", "load kept; double runs code changed"},
		{"code", set("double", code+"var b = 1; var a = 3"), "double 1", "double runs code changed; text kept; last may run if the result of double differs"},
		{"space in a string", set("double", code+`var b = "a b"`), "double 1", "double runs code"},
		{"space removed from a string", set("double", code+`var b = "ab"`), "double 1", "double runs code"},
		{"new type", set("text", code+"type a int"), "text 1", "text runs code"},
		{"type to alias", set("text", code+"type a = int"), "text 1", "text runs code"},
		{"new call", set("text", code+"var a = f(b)"), "text 1", "text runs code"},
		{"call with dots", set("text", code+"var a = f(b...)"), "text 1", "text runs code"},
		{"new directive", set("text", code+"//go:noinline\nfunc a() {}"), "text 1", "text runs code"},
		{"other directive", set("text", code+"//go:nosplit\nfunc a() {}"), "text 1", "text runs code"},
		{"directive of the first function", set("text", code+"//go:noinline\nfunc a() {}\n\nfunc b() {}"), "text 1", "text runs code"},
		{"directive moved to the second function", set("text", code+"func a() {}\n\n//go:noinline\nfunc b() {}"), "text 1", "text runs code"},
		{"directive in a group", set("text", code+"var (\n\t//go:embed a\n\ta string\n\tb string\n)"), "text 1", "text runs code"},
		{"directive moved within a group", set("text", code+"var (\n\ta string\n\t//go:embed a\n\tb string\n)"), "text 1", "text runs code"},
		{"comments in a group", set("text", code+"// All.\nvar (\n\ta string // one\n\n\t// Two.\n\t//go:embed a\n\tb string\n)"), "", "text kept"},
		{"parameter", func() { recipe.factor = 3 }, "double 1, last 1", "double runs parameters changed; text kept; last may run if the result of double differs"},
		{"code of the last stage", set("last", "package p"), "last 1", "text kept; last runs code changed"},
		{"raw byte", func() { write(t, file, "1\n12\n") }, "double 1, last 1, load 1, text 1", "load runs file " + file + " changed; double may run if the result of load differs"},
		{"raw byte, with the same time and size", func() {
			write(t, file, "1\n13\n")
			must.Do(t, os.Chtimes(file, old, old))
		}, "double 1, last 1, load 1, text 1", "load runs file"},
		{"another raw byte, with the same time and size", func() {
			write(t, file, "1\n14\n")
			must.Do(t, os.Chtimes(file, old, old))
		}, "double 1, last 1, load 1, text 1", "load runs file"},
		{"time of a raw file", func() {
			must.Do(t, os.Chtimes(file, time.Now(), time.Now()))
		}, "", "load kept"},
		{"new raw file", func() { write(t, strings.Replace(recipe.raw, "*", "2", 1), "5") }, "double 1, last 1, load 1, text 1", "load runs file " + strings.Replace(recipe.raw, "*", "2", 1) + " was added"},
		{"old parameter", func() { recipe.factor = 2 }, "double 1, last 1", "double runs parameters changed"},
		{"newer parameter again", func() { recipe.factor = 3 }, "", "double kept; text kept; last kept"},
	} {
		c.change()
		if got := plan(t, r, recipe.pipeline()); !strings.Contains(got, c.wantPlan) {
			t.Errorf("after change %q, the plan is %s, want %s", c.name, got, c.wantPlan)
		}
		run(t, r, recipe.pipeline())
		if got := recipe.runs.take(); got != c.wantRan {
			t.Errorf("after change %q, the stages that ran are %q, want %q", c.name, got, c.wantRan)
		}
	}
}

// TestHashCache checks that the hash of an unchanged raw file is cached, so that the file is not
// read again.
func TestHashCache(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("root can read files of any mode: only the cached hash is checked")
	}
	recipe, dir := newRecipe(t), t.TempDir()
	r := open(t, dir, nil)
	deadline := time.Now().Add(time.Minute)
	for { // wait until the files' last change is old enough for caching their hashes
		run(t, r, recipe.pipeline())
		if b, err := os.ReadFile(filepath.Join(dir, "hashes.json")); err == nil && strings.Contains(string(b), "1.txt") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the hash was not cached within a minute")
		}
		time.Sleep(100 * time.Millisecond)
	}
	cacheFile := filepath.Join(dir, "hashes.json")
	b := must.Get(os.ReadFile(cacheFile))(t)
	// A wrong hash in the cache changes the key, which shows that the cache is used.
	write(t, cacheFile, strings.ReplaceAll(string(b), `"Sum":"`, `"Sum":"x`))
	recipe.runs.take()
	run(t, open(t, dir, nil), recipe.pipeline())
	if got := recipe.runs.take(); got != "load 1" {
		t.Error("the cached hash is not used:", got)
	}
	for _, damaged := range []string{"", "{", "null", "[]"} {
		write(t, cacheFile, damaged)
		if run(t, open(t, dir, nil), recipe.pipeline()); recipe.runs.take() != "" {
			t.Errorf("with the cache file %q, stages ran although nothing had changed", damaged)
		}
	}
}

// TestTTL checks that an expired result is computed again, and the results computed from it only if it differs. The
// stage's TTL (time to live) also applies to a result that another program stored without a TTL.
func TestTTL(t *testing.T) {
	for name, storedTTL := range map[string]time.Duration{"stored with the TTL": time.Hour, "stored without a TTL": 0} {
		t.Run(name, func(t *testing.T) {
			recipe := newRecipe(t)
			r := open(t, t.TempDir(), nil)
			now := time.Now()
			stage.SetNow(r, func() time.Time { return now })
			stored, pipeline := recipe.pipeline(), recipe.pipeline()
			stage.Expire(stored, "double", storedTTL)
			stage.Expire(pipeline, "double", time.Hour)
			run(t, r, stored)
			recipe.runs.take()
			now = now.Add(time.Hour - time.Second)
			if run(t, r, pipeline); recipe.runs.take() != "" {
				t.Error("a stage with a valid result ran")
			}
			now = now.Add(time.Second)
			if got := plan(t, r, pipeline); !strings.Contains(got, "double runs its result expired at") || !strings.Contains(got, "text kept; last may run") {
				t.Errorf("the plan is %s, want exactly the expired stages to run", got)
			}
			if run(t, r, pipeline); recipe.runs.take() != "double 1" {
				t.Error("want exactly the expired stages to run")
			}
			if run(t, r, pipeline); recipe.runs.take() != "" {
				t.Error("a stage with a new result ran")
			}
		})
	}
}
