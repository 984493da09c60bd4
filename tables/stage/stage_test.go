package stage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/tables/stage"
)

// Wherever results are kept, a second run runs nothing and returns the same, and a
// second place on the same store, with a directory of its own, neither.
func TestKeptEverywhere(t *testing.T) {
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keptAt(t, place)
		})
	}
}

func keptAt(t *testing.T, place func(testing.TB) *stage.Options) {
	o, recipe, dir := place(t), newRecipe(t), t.TempDir()
	r := open(t, dir, o)
	if got := plan(t, r, recipe.pipeline()); strings.Count(got, "it never ran") != 4 {
		t.Error(got)
	}
	if got := run(t, r, recipe.pipeline()); got != wanted {
		t.Errorf("got %s, want %s", got, wanted)
	}
	if got := recipe.ran.take(); got != "double 1, last 1, load 1, text 1" {
		t.Error(got)
	}
	if o != nil {
		dir = t.TempDir()
	}
	r = open(t, dir, o)
	if got := plan(t, r, recipe.pipeline()); got != "load kept; double kept; text kept; last kept" {
		t.Error(got)
	}
	if got := run(t, r, recipe.pipeline()); got != wanted || recipe.ran.take() != "" {
		t.Errorf("got %s, want %s", got, wanted)
	}
	// The last one alone again, of what is kept: files are fetched to this directory.
	recipe.source["last.go"] = &fstest.MapFile{Data: []byte(code + "var x int")}
	if got := run(t, r, recipe.pipeline()); got != wanted || recipe.ran.take() != "last 1" {
		t.Errorf("got %s, want %s", got, wanted)
	}
	left(t, dir)
}

// left fails where something is in the directory that should be there no more.
func left(t testing.TB, dir string) {
	t.Helper()
	if names, err := filepath.Glob(filepath.Join(dir, "tmp", "*")); err != nil || len(names) > 0 {
		t.Error(names, err)
	}
}

// What is not kept runs once in a run, and only if something needs it.
func TestNotKept(t *testing.T) {
	recipe := newRecipe(t)
	recipe.keep = func(name string) bool { return name == "last" }
	r := open(t, t.TempDir(), nil)
	if got := run(t, r, recipe.pipeline()); got != wanted || recipe.ran.take() != "double 1, last 1, load 1, text 1" {
		t.Error(got)
	}
	if got := plan(t, r, recipe.pipeline()); got != "load skipped; double skipped; text kept; last kept" {
		t.Error(got)
	}
	if got := run(t, r, recipe.pipeline()); got != wanted || recipe.ran.take() != "" {
		t.Error(got)
	}
	recipe.factor = 3
	if got := plan(t, r, recipe.pipeline()); got != "load runs it is not kept; double runs it is not kept; text kept; last runs stage double changed" {
		t.Error(got)
	}
	if got := run(t, r, recipe.pipeline()); got == wanted || recipe.ran.take() != "double 1, last 1, load 1" {
		t.Error(got)
	}
	recipe.keep = func(string) bool { return false }
	for range 2 {
		if run(t, r, recipe.pipeline()); recipe.ran.take() != "double 1, last 1, load 1" {
			t.Error("what is not kept did not run once")
		}
	}
}

// Stages that do not depend on each other run at the same time: each of these waits for
// the other.
func TestParallel(t *testing.T) {
	recipe := newRecipe(t)
	both := make(chan string, 1)
	recipe.before = func(name string) error {
		if name != "double" && name != "text" {
			return nil
		}
		select {
		case both <- name: // taken by the other
		case <-both:
			return nil
		}
		deadline := time.After(time.Minute)
		for len(both) > 0 {
			select {
			case <-deadline:
				return errors.New("the other does not run")
			case <-time.After(time.Millisecond):
			}
		}
		return nil
	}
	if got := run(t, open(t, t.TempDir(), &stage.Options{Store: nil, Parallel: 2}), recipe.pipeline()); got != wanted {
		t.Error(got)
	}
}

// A stage that fails keeps nothing and leaves nothing, ends the others, and runs again.
func TestFails(t *testing.T) {
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, bad := range []string{"load", "double", "text", "last"} {
				recipe, dir := newRecipe(t), t.TempDir()
				r := open(t, dir, place(t))
				cause := errors.New("no luck")
				recipe.before = func(name string) error {
					if name == bad {
						return cause
					}
					return nil
				}
				_, err := recipe.pipeline().Run(t.Context(), r)
				var e *stage.Error
				if !errors.Is(err, cause) || !errors.As(err, &e) || e.Stage != bad {
					t.Errorf("%s: %v", bad, err)
				}
				all, err := r.List(t.Context())
				for _, i := range all {
					if i.Stage == bad {
						t.Errorf("%s is kept", bad)
					}
				}
				if err != nil {
					t.Error(err)
				}
				left(t, dir)
				recipe.before = nil
				if got := run(t, r, recipe.pipeline()); got != wanted {
					t.Error(got)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newRecipe(t).pipeline().Run(ctx, open(t, t.TempDir(), nil)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func nothing(context.Context, *stage.Inputs) (int, error) { return 0, nil }

// same writes itself, whatever it is.
type same int

func (same) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("same")) }

func sumUp(context.Context, *stage.Inputs) (arrow.Table, error) { return nil, nil }

// What cannot be hashed or kept is an error that says what to do.
func TestCannot(t *testing.T) {
	type spec = stage.Spec[int]
	alone, table := spec{Version: "1"}, stage.Spec[arrow.Table]{Version: "1", Cache: true}
	coded := table
	coded.Codec = encode.ValueCodec[arrow.Table]{
		Encode: func([]byte, arrow.Table) ([]byte, error) { return nil, nil },
		Decode: func([]byte) (arrow.Table, error) { return nil, nil },
	}
	coded.CodecName = "json"
	self := []any{nil}
	self[0] = self
	dir := t.TempDir()
	other := stage.Define("s", nothing, spec{Version: "2"})
	elsewhere := stage.Define("f", func(context.Context, *stage.Inputs) (stage.Folder, error) { return stage.Folder(dir), nil },
		stage.Spec[stage.Folder]{Version: "1", Cache: true})
	made := func(s spec) *stage.Stage[int] { return stage.Define("s", nothing, s) }
	files := func(name, text string, patterns ...string) []stage.Code {
		return []stage.Code{{Files: fstest.MapFS{name: {Data: []byte(text)}}, Patterns: patterns}}
	}
	with := func(params ...any) *stage.Stage[int] { return made(spec{Version: "1", Params: params}) }
	for want, s := range map[string]interface {
		Plan(context.Context, *stage.Results) ([]stage.Step, error)
	}{
		"no name":                          stage.Define("", nothing, alone),
		"nothing is said":                  made(spec{}),
		"give it Codec":                    made(spec{Version: "1", Cache: true}),
		"leave out Codec":                  stage.Define("s", sumUp, coded),
		"not list its modules":             made(spec{Code: files("a.go", code)}),
		"a.go:1:1":                         made(spec{Modules: ours, Code: files("a.go", "func")}),
		"source b*":                        made(spec{Modules: ours, Code: files("a.go", code, "b*")}),
		"there are no files":               made(spec{Modules: ours, Code: files("a_test.go", code)}),
		"files no/such/*":                  made(spec{Version: "1", Files: []string{"no/such/*"}}),
		"no regular file":                  made(spec{Version: "1", Files: []string{dir}}),
		"parameter 1 is a func()":          with(func() {}),
		"parameter 2.F is a *int":          with(1, struct{ F *int }{}),
		"parameter 1[a] is a chan":         with(map[string]any{"a": make(chan int)}),
		"holds itself":                     with(self),
		"parameter 1 is a stage_test.same": with(same(1)),
		"has this name":                    made(spec{Version: "1", From: []stage.Any{other}}),
	} {
		if _, err := s.Plan(t.Context(), open(t, dir, nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	r := open(t, dir, nil)
	if _, err := elsewhere.Run(t.Context(), r); err == nil || !strings.Contains(err.Error(), "Inputs.Dir") {
		t.Error(err)
	}
	if _, err := stage.Define("n", sumUp, table).Run(t.Context(), r); err == nil || !strings.Contains(err.Error(), "no table") {
		t.Error(err)
	}
	stranger := stage.Define("t", func(_ context.Context, in *stage.Inputs) (int, error) { return other.Of(in) }, alone)
	if _, err := stranger.Run(t.Context(), r); err == nil || !strings.Contains(err.Error(), "no ancestor") {
		t.Error(err)
	}
	if _, err := stage.Open(dir, &stage.Options{Tables: openTables(t, t.TempDir()), Store: places["dict"](t).Store}); err == nil {
		t.Error("two places are taken")
	}
}

// A raw file that is changed while its stage runs makes no result.
func TestChangedMeanwhile(t *testing.T) {
	recipe := newRecipe(t)
	r := open(t, t.TempDir(), nil)
	recipe.before = func(name string) error {
		if name == "load" {
			return os.WriteFile(strings.Replace(recipe.raw, "*", "1", 1), []byte("100"), 0o666)
		}
		return nil
	}
	if _, err := recipe.pipeline().Run(t.Context(), r); err == nil || !strings.Contains(err.Error(), "was changed while") {
		t.Error(err)
	}
	if all, err := r.List(t.Context()); err != nil || len(all) > 0 {
		t.Error(all, err)
	}
	recipe.before = nil
	if got := run(t, r, recipe.pipeline()); !strings.Contains(got, fmt.Sprint(2*(0+10+100))) {
		t.Error(got)
	}
}
