package stage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/stage"
)

// TestBackends checks that in every backend, a second run returns the same result without running a stage, even
// with a second directory on the same store.
func TestBackends(t *testing.T) { inBackends(t, testStored) }

// testStored checks that a run uses the results that an earlier run stored in the same backend, even if the runs have
// different directories.
func testStored(t *testing.T, newOptions func(testing.TB) *stage.Options) {
	o, recipe, dir := newOptions(t), newRecipe(t), t.TempDir()
	r := open(t, dir, o)
	if got := plan(t, r, recipe.pipeline()); got != "load runs it never ran; double may run if the result of load differs; text may run if the result of load differs; last may run if the result of double or text differs" {
		t.Errorf("the first plan is %s, want the first stage to run, and the others if results differ", got)
	}
	if got := run(t, r, recipe.pipeline()); got != wantResult {
		t.Errorf("the first run returned %s, want %s", got, wantResult)
	}
	if got := recipe.runs.take(); got != "double 1, last 1, load 1, text 1" {
		t.Errorf("the first run ran %q, want each stage once", got)
	}
	if o != nil {
		dir = t.TempDir()
	}
	r = open(t, dir, o)
	if got := plan(t, r, recipe.pipeline()); got != "load kept; double kept; text kept; last kept" {
		t.Errorf("the second plan is %s, want all results kept", got)
	}
	if got := run(t, r, recipe.pipeline()); got != wantResult || recipe.runs.take() != "" {
		t.Errorf("the second run returned %s, want the stored result %s without running a stage", got, wantResult)
	}
	// After a change of its code, only the last stage must run. Its run fetches the stored files to this directory.
	recipe.source["last.go"] = &fstest.MapFile{Data: []byte(code + "var x int")}
	if got := run(t, r, recipe.pipeline()); got != wantResult || recipe.runs.take() != "last 1" {
		t.Errorf("after the change, the run returned %s, want %s, running only last", got, wantResult)
	}
	checkNoLeftovers(t, dir)
}

// checkNoLeftovers fails the test if the directory contains unfinished results.
func checkNoLeftovers(t testing.TB, dir string) {
	t.Helper()
	if names, err := filepath.Glob(filepath.Join(dir, "tmp", "*")); err != nil || len(names) > 0 {
		t.Errorf("the unfinished results %q remain, want none; error: %v", names, err)
	}
}

// TestNotCached checks that a stage without Cache runs at most once per run, and only if another stage needs it.
func TestNotCached(t *testing.T) {
	recipe := newRecipe(t)
	recipe.isCached = func(name string) bool { return name == "last" }
	r := open(t, t.TempDir(), nil)
	if got := run(t, r, recipe.pipeline()); got != wantResult || recipe.runs.take() != "double 1, last 1, load 1, text 1" {
		t.Errorf("the first run returned %s, want %s and one run of each stage", got, wantResult)
	}
	if got := plan(t, r, recipe.pipeline()); got != "load skipped; double skipped; text kept; last kept" {
		t.Errorf("the second plan is %s, want load and double skipped", got)
	}
	if got := run(t, r, recipe.pipeline()); got != wantResult || recipe.runs.take() != "" {
		t.Errorf("the second run returned %s, want the stored result %s without running a stage", got, wantResult)
	}
	recipe.factor = 3
	if got := plan(t, r, recipe.pipeline()); got != "load runs its result is not cached; double runs its result is not cached; text kept; last runs stage double changed" {
		t.Errorf("after the parameter changed, the plan is %s, want all stages except text to run", got)
	}
	if got := run(t, r, recipe.pipeline()); got == wantResult || recipe.runs.take() != "double 1, last 1, load 1" {
		t.Errorf("after the parameter changed, the pipeline returned %s, want another result and one run each of double, last and load", got)
	}
	recipe.isCached = func(string) bool { return false }
	for range 2 {
		run(t, r, recipe.pipeline())
		if got := recipe.runs.take(); got != "double 1, last 1, load 1" {
			t.Errorf("without Cache, the pipeline ran %q, want double, last and load once each", got)
		}
	}
}

// TestParallel checks that independent stages run at the same time: two stages wait for each other.
func TestParallel(t *testing.T) {
	recipe := newRecipe(t)
	names := make(chan string, 1)
	recipe.onRun = func(name string) error {
		if name != "double" && name != "text" {
			return nil
		}
		select {
		case names <- name: // the other stage receives it
		case <-names:
			return nil
		}
		deadline := time.After(time.Minute)
		for len(names) > 0 {
			select {
			case <-deadline:
				return errors.New("the other stage does not run")
			case <-time.After(time.Millisecond):
			}
		}
		return nil
	}
	if got := run(t, open(t, t.TempDir(), &stage.Options{Parallel: 2}), recipe.pipeline()); got != wantResult {
		t.Errorf("the pipeline returned %s, want %s", got, wantResult)
	}
}

// TestFailedStage checks that a failed stage stores nothing, leaves no files, cancels the other stages, and can
// be run again.
func TestFailedStage(t *testing.T) {
	inBackends(t, func(t *testing.T, newOptions func(testing.TB) *stage.Options) {
		for _, failing := range []string{"load", "double", "text", "last"} {
			recipe, dir := newRecipe(t), t.TempDir()
			r := open(t, dir, newOptions(t))
			cause := errors.New("no luck")
			recipe.onRun = func(name string) error {
				if name == failing {
					return cause
				}
				return nil
			}
			_, err := recipe.pipeline().Run(t.Context(), r)
			var e *stage.Error
			if !errors.Is(err, cause) || !errors.As(err, &e) || e.Stage != failing {
				t.Errorf("Run = %v, want the error of stage %s", err, failing)
			}
			results, err := r.List(t.Context())
			for _, i := range results {
				if i.Stage == failing {
					t.Errorf("the failed stage %s stored a result", failing)
				}
			}
			if err != nil {
				t.Error(err)
			}
			checkNoLeftovers(t, dir)
			recipe.onRun = nil
			if got := run(t, r, recipe.pipeline()); got != wantResult {
				t.Errorf("after the failure, the pipeline returned %s, want %s", got, wantResult)
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newRecipe(t).pipeline().Run(ctx, open(t, t.TempDir(), nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("Run with a canceled context = %v, want context.Canceled", err)
	}
}

func returnZero(context.Context, *stage.Inputs) (int, error) { return 0, nil }

// selfFormatting is an integer whose Format method writes the same text for every value.
type selfFormatting int

func (selfFormatting) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("same")) }

func nilTable(context.Context, *stage.Inputs) (arrow.Table, error) { return nil, nil }

// TestInvalidSpecs checks that inputs that cannot be hashed, and results that cannot be stored, are errors that
// say what to do.
func TestInvalidSpecs(t *testing.T) {
	type spec = stage.Spec[int]
	json := encode.JSON[int]()
	plain, table := spec{Version: "1"}, stage.Spec[arrow.Table]{Version: "1", Cache: true}
	withCodec := table
	withCodec.Codec = encode.ValueCodec[arrow.Table]{
		Encode: func([]byte, arrow.Table) ([]byte, error) { return nil, nil },
		Decode: func([]byte) (arrow.Table, error) { return nil, nil },
	}
	withCodec.CodecName = "json"
	cyclic := []any{nil}
	cyclic[0] = cyclic
	dir := t.TempDir()
	other := stage.Define("s", returnZero, spec{Version: "2"})
	wrongFolder := stage.Define("f", func(context.Context, *stage.Inputs) (stage.Folder, error) { return stage.Folder(dir), nil },
		stage.Spec[stage.Folder]{Version: "1", Cache: true})
	define := func(s spec) *stage.Stage[int] { return stage.Define("s", returnZero, s) }
	files := func(name, text string, patterns ...string) []stage.Code {
		return []stage.Code{{Files: fstest.MapFS{name: {Data: []byte(text)}}, Patterns: patterns}}
	}
	withParams := func(params ...any) *stage.Stage[int] { return define(spec{Version: "1", Params: params}) }
	for want, s := range map[string]interface {
		Plan(context.Context, *stage.Results) ([]stage.Step, error)
	}{
		"no name":                                    stage.Define("", returnZero, plain),
		"no function":                                stage.Define[int]("s", nil, plain),
		"neither Code nor Version":                   define(spec{}),
		"has no Encode or no":                        define(spec{Version: "1", Cache: true, Codec: encode.ValueCodec[int]{Encode: json.Encode}, CodecName: "half"}),
		"the codec has no name":                      define(spec{Version: "1", Cache: true, Codec: json}),
		"set Spec.Codec":                             define(spec{Version: "1", Cache: true}),
		"remove Spec.Codec":                          stage.Define("s", nilTable, withCodec),
		"module list is incomplete":                  define(spec{Code: files("a.go", code)}),
		"a.go:1:1":                                   define(spec{Modules: ownVersion, Code: files("a.go", "func")}),
		"source b*":                                  define(spec{Modules: ownVersion, Code: files("a.go", code, "b*")}),
		"Code contains no files":                     define(spec{Modules: ownVersion, Code: files("a_test.go", code)}),
		"files no/such/*":                            define(spec{Version: "1", Files: []string{"no/such/*"}}),
		"not a regular file":                         define(spec{Version: "1", Files: []string{dir}}),
		"parameter 1 is a func()":                    withParams(func() {}),
		"parameter 2.F is a *int":                    withParams(1, struct{ F *int }{}),
		"parameter 1[a] is a chan":                   withParams(map[string]any{"a": make(chan int)}),
		"contains itself":                            withParams(cyclic),
		"parameter 1 is a stage_test.selfFormatting": withParams(selfFormatting(1)),
		"has the same name":                          define(spec{Version: "1", From: []stage.Any{other}}),
	} {
		must.Fail(t, must.Err(s.Plan(t.Context(), open(t, dir, nil))), want, "Plan")
	}
	r := open(t, dir, nil)
	must.Fail(t, must.Err(wrongFolder.Run(t.Context(), r)), "Inputs.Dir", "Run of a stage that returns another folder")
	if _, err := stage.Define("n", nilTable, table).Run(t.Context(), r); err == nil || !strings.Contains(err.Error(), "a nil table") {
		t.Errorf("Run of a stage that returns a nil table = %v, want an error that says so", err)
	}
	notAncestor := stage.Define("t", func(_ context.Context, in *stage.Inputs) (int, error) { return other.Of(in) }, plain)
	if _, err := notAncestor.Run(t.Context(), r); err == nil || !strings.Contains(err.Error(), "not a direct ancestor") {
		t.Errorf("Of for a stage that is not an ancestor = %v, want an error that says so", err)
	}
}

// TestChangedDuringRun checks that a stage stores no result if its raw file changes while it runs.
func TestChangedDuringRun(t *testing.T) {
	recipe := newRecipe(t)
	r := open(t, t.TempDir(), nil)
	recipe.onRun = func(name string) error {
		if name == "load" {
			return os.WriteFile(strings.Replace(recipe.raw, "*", "1", 1), []byte("100"), 0o666)
		}
		return nil
	}
	must.Fail(t, must.Err(recipe.pipeline().Run(t.Context(), r)), "changed while", "Run")
	if results, err := r.List(t.Context()); err != nil || len(results) > 0 {
		t.Errorf("the stored results are %v, %v, want none", results, err)
	}
	recipe.onRun = nil
	if got := run(t, r, recipe.pipeline()); !strings.Contains(got, fmt.Sprint(2*(0+10+100))) {
		t.Errorf("after the change, the pipeline returned %s, want the new sum", got)
	}
}

func TestNilValue(t *testing.T) {
	s := stage.Define("nil", func(context.Context, *stage.Inputs) (any, error) { return nil, nil },
		stage.Spec[any]{Version: "1", Cache: true, Codec: encode.JSON[any](), CodecName: "json"})
	if got, err := s.Run(t.Context(), open(t, t.TempDir(), nil)); got != nil || err != nil {
		t.Errorf("Run = %v, %v, want nil", got, err)
	}
}

// TestNilResults checks that Run and Plan return errors for nil Results, as a failed Open returns, and for zero
// Results. Both can be closed.
func TestNilResults(t *testing.T) {
	s := stage.Define("one", func(context.Context, *stage.Inputs) (int, error) { return 1, nil }, stage.Spec[int]{Version: "1"})
	for _, r := range []*stage.Results{nil, {}} {
		if _, err := s.Run(t.Context(), r); err == nil {
			t.Errorf("Run with %v succeeded", r)
		}
		if _, err := s.Plan(t.Context(), r); err == nil {
			t.Errorf("Plan with %v succeeded", r)
		}
		must.Do(t, r.Close())
	}
}

// TestCompareLwdp checks the claims about lwdp in testdata/lwdp.md, which docs/stage.md sums up.
func TestCompareLwdp(t *testing.T) {
	t.Parallel()
	page := must.Get(os.ReadFile("testdata/lwdp.md"))(t)
	var want []string
	_, table, _ := strings.Cut(string(page), "| what changes between two runs |")
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \| (right|wrong)\b`).FindAllStringSubmatch(table, -1) {
		want = append(want, row[1]+": "+row[2])
	}
	cmd := exec.CommandContext(t.Context(), procs.Python(t, "lwdp"), "-W", "ignore", "testdata/cases.py", "lwdp.stage")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || len(want) == 0 || got != strings.Join(want, "\n") {
		t.Errorf("the comparison printed (error %v)\n%s\nwant\n%s\nits standard error:\n%s", err, got, strings.Join(want, "\n"), stderr.String())
	}
}
