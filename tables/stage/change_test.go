package stage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-partd/partd/tables/stage"
)

// A change runs the stage that it concerns and those below it, and nothing else; the plan
// says so before.
func TestChanges(t *testing.T) {
	recipe := newRecipe(t)
	r := open(t, t.TempDir(), nil)
	set := func(name, text string) func() {
		return func() { recipe.source[name+".go"] = &fstest.MapFile{Data: []byte(text)} }
	}
	file := strings.Replace(recipe.raw, "*", "1", 1)
	old := time.Now().Add(-time.Hour)
	for _, c := range []struct {
		what   string
		change func()
		ran    string
		why    string
	}{
		{"the first run", func() {}, "double 1, last 1, load 1, text 1", "load runs it never ran"},
		{"nothing", func() {}, "", "load kept; double kept; text kept; last kept"},
		{"comments", set("load", strings.NewReplacer("numbers", "all", "the first", "1st").Replace(code)), "", "load kept"},
		{"white space", set("load", "package  p\n\n\n\nfunc load(x  ...int)  int {\n\n\treturn x [ 0 ]\n}\n"), "", "load kept"},
		{"the order of code", set("double", code+"var b = 1; var a = 2"), "double 1, last 1", "load kept; double runs code changed"},
		{"code", set("double", code+"var b = 1; var a = 3"), "double 1, last 1", "double runs code changed; text kept; last runs stage double changed"},
		{"a space in a string", set("double", code+`var b = "a b"`), "double 1, last 1", "double runs code"},
		{"none in it", set("double", code+`var b = "ab"`), "double 1, last 1", "double runs code"},
		{"a type", set("text", code+"type a int"), "last 1, text 1", "text runs code"},
		{"an alias", set("text", code+"type a = int"), "last 1, text 1", "text runs code"},
		{"a call", set("text", code+"var a = f(b)"), "last 1, text 1", "text runs code"},
		{"with dots", set("text", code+"var a = f(b...)"), "last 1, text 1", "text runs code"},
		{"a directive", set("text", code+"//go:noinline\nfunc a() {}"), "last 1, text 1", "text runs code"},
		{"another", set("text", code+"//go:nosplit\nfunc a() {}"), "last 1, text 1", "text runs code"},
		{"a directive of two", set("text", code+"//go:noinline\nfunc a() {}\n\nfunc b() {}"), "last 1, text 1", "text runs code"},
		{"it moves", set("text", code+"func a() {}\n\n//go:noinline\nfunc b() {}"), "last 1, text 1", "text runs code"},
		{"one in a group", set("text", code+"var (\n\t//go:embed a\n\ta string\n\tb string\n)"), "last 1, text 1", "text runs code"},
		{"it moves there", set("text", code+"var (\n\ta string\n\t//go:embed a\n\tb string\n)"), "last 1, text 1", "text runs code"},
		{"and comments come", set("text", code+"// All.\nvar (\n\ta string // one\n\n\t// Two.\n\t//go:embed a\n\tb string\n)"), "", "text kept"},
		{"a parameter", func() { recipe.factor = 3 }, "double 1, last 1", "double runs parameters changed; text kept; last runs stage double changed"},
		{"the last one", set("last", "package p"), "last 1", "text kept; last runs code changed"},
		{"a raw byte", func() { write(t, file, "1\n12\n") }, "double 1, last 1, load 1, text 1", "load runs file " + file + " changed; double runs stage load changed"},
		{"a raw byte, at the same time and size", func() {
			write(t, file, "1\n13\n")
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}, "double 1, last 1, load 1, text 1", "load runs file"},
		{"and again", func() {
			write(t, file, "1\n14\n")
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}, "double 1, last 1, load 1, text 1", "load runs file"},
		{"the time of a raw file", func() {
			if err := os.Chtimes(file, time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}, "", "load kept"},
		{"another raw file", func() { write(t, strings.Replace(recipe.raw, "*", "2", 1), "5") }, "double 1, last 1, load 1, text 1", "load runs file " + strings.Replace(recipe.raw, "*", "2", 1) + " is new"},
		{"back", func() { recipe.factor = 2 }, "double 1, last 1", "double runs parameters changed"},
		{"and forth: it is kept", func() { recipe.factor = 3 }, "", "double kept; text kept; last kept"},
	} {
		c.change()
		if got := plan(t, r, recipe.pipeline()); !strings.Contains(got, c.why) {
			t.Errorf("%s: the plan is %s, want %s", c.what, got, c.why)
		}
		run(t, r, recipe.pipeline())
		if got := recipe.ran.take(); got != c.ran {
			t.Errorf("%s: ran %q, want %q", c.what, got, c.ran)
		}
	}
}

// The hash of a raw file is remembered over a change of nothing: the file is not read.
func TestHashesRemembered(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("as root a file can be read whatever its mode: what is remembered is looked at alone")
	}
	recipe, dir := newRecipe(t), t.TempDir()
	r := open(t, dir, nil)
	deadline := time.Now().Add(time.Minute)
	for { // until the file was changed long enough ago
		run(t, r, recipe.pipeline())
		if b, err := os.ReadFile(filepath.Join(dir, "hashes.json")); err == nil && strings.Contains(string(b), "1.txt") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the hash is not remembered")
		}
		time.Sleep(100 * time.Millisecond)
	}
	remembered := filepath.Join(dir, "hashes.json")
	b, err := os.ReadFile(remembered)
	if err != nil {
		t.Fatal(err)
	}
	// A hash that is remembered wrongly shows that it is used: the key is another.
	write(t, remembered, strings.ReplaceAll(string(b), `"Sum":"`, `"Sum":"x`))
	recipe.ran.take()
	run(t, open(t, dir, nil), recipe.pipeline())
	if got := recipe.ran.take(); got != "double 1, last 1, load 1, text 1" {
		t.Error("the hash that is remembered is not used:", got)
	}
	for _, damaged := range []string{"", "{", "null", "[]"} {
		write(t, remembered, damaged)
		if run(t, open(t, dir, nil), recipe.pipeline()); recipe.ran.take() != "" {
			t.Errorf("%q: ran", damaged)
		}
	}
}

// A result expires, and with it what was made of it, and no others.
func TestTTL(t *testing.T) {
	recipe := newRecipe(t)
	r := open(t, t.TempDir(), nil)
	now := time.Now()
	stage.SetNow(r, func() time.Time { return now })
	pipeline := recipe.pipeline()
	stage.Expire(pipeline, "double", time.Hour)
	run(t, r, pipeline)
	recipe.ran.take()
	now = now.Add(time.Hour - time.Second)
	if run(t, r, pipeline); recipe.ran.take() != "" {
		t.Error("what did not expire ran")
	}
	now = now.Add(time.Second)
	if got := plan(t, r, pipeline); !strings.Contains(got, "double runs its result expired at") || !strings.Contains(got, "text kept; last runs its") {
		t.Error(got)
	}
	if run(t, r, pipeline); recipe.ran.take() != "double 1, last 1" {
		t.Error("not exactly what expired ran")
	}
	if run(t, r, pipeline); recipe.ran.take() != "" {
		t.Error("what is new ran")
	}
}
