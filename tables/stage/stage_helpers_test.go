package stage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/stage"
	"github.com/go-partd/partd/tables/tablestest"
)

// ownVersion is a Spec.Modules with a version of this module, because a test's module list is incomplete.
var ownVersion = map[string]string{"github.com/go-partd/partd": "test"}

var numbers = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

func tableWith(values ...int64) arrow.Table {
	b := array.NewRecordBuilder(memory.DefaultAllocator, numbers)
	b.Field(0).(*array.Int64Builder).AppendValues(values, nil)
	return array.NewTableFromRecords(numbers, []arrow.RecordBatch{b.NewRecordBatch()})
}

func valuesOf(t arrow.Table) (values []int64) {
	for _, c := range t.Column(0).Data().Chunks() {
		values = append(values, c.(*array.Int64).Int64Values()...)
	}
	return values
}

type runCounter struct {
	mu     sync.Mutex
	counts map[string]int
}

func (r *runCounter) add(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]int{}
	}
	r.counts[name]++
}

// take returns the stages that ran since the last call, with their counts.
func (r *runCounter) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(r.counts)) {
		all = append(all, fmt.Sprintf("%s %d", name, r.counts[name]))
	}
	clear(r.counts)
	return strings.Join(all, ", ")
}

type recipe struct {
	runs     *runCounter
	raw      string // pattern for the raw files
	source   fstest.MapFS
	factor   int64
	isCached func(name string) bool
	onRun    func(name string) error
}

const code = `package p

// load reads numbers.
func load(x ...int) int { return x[0] /* the first */ }
`

func newRecipe(t testing.TB) *recipe {
	t.Helper()
	dir := t.TempDir()
	for i := range 2 {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.txt", i)), fmt.Sprintf("%d\n%d\n", i, i+10))
	}
	return recipeOf(filepath.Join(dir, "*.txt"), 2)
}

// recipeOf returns a recipe for raw files.
func recipeOf(raw string, factor int64) *recipe {
	source := fstest.MapFS{}
	for _, name := range []string{"load", "double", "text", "last"} {
		source[name+".go"] = &fstest.MapFile{Data: []byte(code)}
	}
	return &recipe{runs: &runCounter{}, raw: raw, source: source, factor: factor}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must.Do(t, os.WriteFile(path, []byte(text), 0o666))
}

// specOf returns a stage's spec with the fields that all stages set.
func specOf[T any](r *recipe, name string) stage.Spec[T] {
	return stage.Spec[T]{
		Code:    []stage.Code{{Files: r.source, Patterns: []string{name + ".go"}}},
		Modules: ownVersion, Cache: r.isCached == nil || r.isCached(name),
	}
}

func (r *recipe) recordRun(name string) error {
	r.runs.add(name)
	if r.onRun != nil {
		return r.onRun(name)
	}
	return nil
}

type result struct {
	Sum   int64
	Files []string
}

// pipeline returns the pipeline load (a table) → double (a table) and text (files) → last (a value).
func (r *recipe) pipeline() *stage.Stage[result] {
	loaded := specOf[arrow.Table](r, "load")
	loaded.Files = []string{r.raw}
	load := stage.Define("load", func(_ context.Context, in *stage.Inputs) (arrow.Table, error) {
		var values []int64
		for _, f := range in.Files() {
			b, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			for _, word := range strings.Fields(string(b)) {
				n, err := strconv.ParseInt(word, 10, 64)
				if err != nil {
					return nil, err
				}
				values = append(values, n)
			}
		}
		return tableWith(values...), r.recordRun("load")
	}, loaded)
	doubled := specOf[arrow.Table](r, "double")
	doubled.From, doubled.Params = []stage.Any{load}, []any{r.factor, map[string]any{"a": []int{1}}}
	double := stage.Define("double", func(_ context.Context, in *stage.Inputs) (arrow.Table, error) {
		t, err := load.Of(in)
		if err != nil {
			return nil, err
		}
		values := valuesOf(t)
		for i := range values {
			values[i] *= r.factor
		}
		return tableWith(values...), r.recordRun("double")
	}, doubled)
	split := specOf[stage.Folder](r, "text")
	split.From, split.Cache = []stage.Any{load}, true
	text := stage.Define("text", func(_ context.Context, in *stage.Inputs) (stage.Folder, error) {
		t, err := load.Of(in)
		if err != nil {
			return "", err
		}
		for _, v := range valuesOf(t) {
			dir := filepath.Join(string(in.Dir()), strconv.FormatInt(v%10, 10))
			if err := errors.Join(os.MkdirAll(dir, 0o777), os.WriteFile(filepath.Join(dir, fmt.Sprint(v)), []byte(fmt.Sprint(v)), 0o666)); err != nil {
				return "", err
			}
		}
		return in.Dir(), r.recordRun("text")
	}, split)
	summed := specOf[result](r, "last")
	summed.From, summed.Codec, summed.CodecName = []stage.Any{double, text}, encode.JSON[result](), "json"
	return stage.Define("last", func(_ context.Context, in *stage.Inputs) (result, error) {
		doubled, err1 := double.Of(in)
		folder, err2 := text.Of(in)
		if err := errors.Join(err1, err2); err != nil {
			return result{}, err
		}
		sum := result{}
		for _, v := range valuesOf(doubled) {
			sum.Sum += v
		}
		err := fs.WalkDir(os.DirFS(string(folder)), ".", func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				sum.Files = append(sum.Files, path)
			}
			return err
		})
		return sum, errors.Join(err, r.recordRun("last"))
	}, summed)
}

const wantResult = `{"Sum":44,"Files":["0/0","0/10","1/1","1/11"]}`

func run(t testing.TB, r *stage.Results, s *stage.Stage[result]) string {
	t.Helper()
	b := must.Get(json.Marshal(must.Get(s.Run(t.Context(), r))(t)))(t)
	return string(b)
}

func open(t testing.TB, dir string, o *stage.Options) *stage.Results {
	t.Helper()
	r := must.Get(stage.Open(dir, o))(t)
	t.Cleanup(func() { must.Do(t, r.Close()) })
	return r
}

// backends contains the options for each kind of store for results.
var backends = map[string]func(testing.TB) *stage.Options{
	"directory": func(testing.TB) *stage.Options { return nil },
	"tables": func(t testing.TB) *stage.Options {
		return &stage.Options{Tables: tablestest.Open(t, &tables.Options{NoTail: true}), Bucket: "stages"}
	},
}

// inBackends runs a test in parallel for each kind of store.
func inBackends(t *testing.T, test func(t *testing.T, newOptions func(testing.TB) *stage.Options)) {
	for name, newOptions := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newOptions)
		})
	}
}

// plan returns the steps that a pipeline's plan contains, as text.
func plan(t testing.TB, r *stage.Results, s *stage.Stage[result]) string {
	t.Helper()
	steps := must.Get(s.Plan(t.Context(), r))(t)
	var lines []string
	for _, s := range steps {
		line := fmt.Sprintf("%s %s", s.Stage, s.Action)
		if s.Action == stage.Runs || s.Action == stage.MayRun {
			line += " " + s.Why
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}
