package encode

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// pandasPeers are environments of .ci/peers: pandas 2 with compression packages, and pandas 3 without.
var pandasPeers = []string{"python", "dask"}

// pandasProgram runs blocks.py in a Python that the tests share, because importing pandas takes seconds.
type pandasProgram struct {
	python   *procs.Interpreter
	packages string // names of the environment's compression packages
	written  string // directory with the results of the command write
}

var pandasPrograms = map[string]*pandasProgram{} // by environment

// withPandas runs a test in each environment.
func withPandas(t *testing.T, peers []string, test func(t *testing.T, p *pandasProgram)) {
	t.Helper()
	for _, peer := range peers {
		t.Run(peer, func(t *testing.T) {
			if pandasPrograms[peer] == nil {
				pandasPrograms[peer] = startPandas(t, procs.Python(t, peer))
			}
			test(t, pandasPrograms[peer])
		})
	}
}

func startPandas(t *testing.T, python string) *pandasProgram {
	t.Helper()
	interpreter := must.Get(procs.StartPython(python, "pandas", "partd"))(t)
	p := &pandasProgram{python: interpreter}
	p.packages = p.run(t, "has")
	p.written = must.Get(os.MkdirTemp("", "partd-pandas-"))(t)
	removeAfterTests = append(removeAfterTests, p.written)
	p.run(t, "write", p.written)
	return p
}

// run runs a command of blocks.py, and returns its output.
func (p *pandasProgram) run(t *testing.T, args ...string) string {
	t.Helper()
	script := must.Get(os.ReadFile("testdata/blocks.py"))(t)
	output, err := p.python.Run(string(script), args...)
	if err != nil {
		t.Fatalf("blocks.py %v: %v\n%s", args, err, output)
	}
	return output
}

func pandasStore(t *testing.T, dir, packages string) *Store[DataFrame] {
	t.Helper()
	return New(openFile(t, dir), PandasBlocks(&PandasOptions{Blosc: strings.Contains(packages, "blosc"), Snappy: strings.Contains(packages, "snappy")}))
}

// TestPandasBlocks checks that pandas reads the same frames from Go's copies as from its own files.
func TestPandasBlocks(t *testing.T) {
	withPandas(t, pandasPeers, func(t *testing.T, p *pandasProgram) {
		goDir := t.TempDir()
		source, target := pandasStore(t, p.written, p.packages), pandasStore(t, goDir, p.packages)
		for info, err := range partd.Keys(t.Context(), source.Unwrap()) {
			must.Do(t, err)
			if strings.HasPrefix(info.Key, "refused ") {
				continue
			}
			n := 0
			for f, err := range source.All(t.Context(), info.Key) {
				must.Do(t, err)
				n += f.Rows()
				must.Do(t, target.Append(t.Context(), Entry[DataFrame]{info.Key, f}))
			}
			frame := must.Get(source.Get(t.Context(), info.Key))(t)
			if frame[0].Rows() != n {
				t.Errorf("%s: Get returns %d rows, but All yields %d", info.Key, frame[0].Rows(), n)
			}
		}
		p.run(t, "check", goDir)
	})
}

func TestPandasUnsupportedFrames(t *testing.T) {
	withPandas(t, pandasPeers, func(t *testing.T, p *pandasProgram) {
		source := pandasStore(t, p.written, p.packages)
		for name, want := range map[string]string{
			"Int64":          "column i (Int64Dtype): IntegerArray is not supported",
			"boolean":        "column b (BooleanDtype): BooleanArray is not supported",
			"period":         "column p (PeriodDtype): ",
			"interval":       "column v (IntervalDtype): ",
			"cut":            "column k (category): categories: IntervalIndex is not supported",
			"date":           "column d (|O8): ",
			"decimal":        "column d (|O8): ",
			"index multi":    "index: MultiIndex is not supported",
			"index period":   "index: PeriodIndex is not supported",
			"index category": "index: CategoricalIndex is not supported",
			"columns multi":  "columns: MultiIndex is not supported",
			"columns time":   "columns: labels of type datetime64[ns] are not supported",
		} {
			_, err := source.Get(t.Context(), "refused "+name)
			if !errors.As(err, new(*DecodeError)) || !strings.Contains(err.Error(), want) {
				t.Errorf("Get of the frame %q = %v, want a DecodeError with %q", name, err, want)
			}
		}
	})
}

// TestPandasColumns checks that Python and Go can append to, and read, the same keys of a server.
func TestPandasColumns(t *testing.T) {
	withPandas(t, []string{"python", "pandas3"}, func(t *testing.T, p *pandasProgram) {
		url := serve(t)
		p.run(t, "columns-write", url)
		s := NewPandasColumns(dial(t, url), &PandasOptions{Msgpack: strings.Contains(p.packages, "msgpack")})
		names := map[string]bool{}
		for info, err := range partd.Keys(t.Context(), s.Unwrap()) {
			must.Do(t, err)
			name, _, _ := strings.Cut(info.Key, "-|-")
			names[name] = true
		}
		for name := range names {
			f := must.Get(s.Get(t.Context(), name))(t)
			must.Do(t, s.Append(t.Context(), Entry[DataFrame]{"go_" + name, f}, Entry[DataFrame]{"go_" + name, f}))
			must.Do(t, s.Append(t.Context(), Entry[DataFrame]{name, firstRow(f)}))
		}
		p.run(t, "columns-check", url)
		if len(names) < 10 {
			t.Fatalf("the server has %d frames, want at least 10", len(names))
		}
		columns := must.Get(s.Get(t.Context(), "wide", "d", "a"))(t)
		if want := (DataFrame{[]Column{{"d", []float64{0.5, 1.5, 2.5, 0.5}}, {"a", []int64{1, 2, 3, 1}}}, Column{nil, []int64{0, 1, 2, 0}}}); !reflect.DeepEqual(columns, want) {
			t.Errorf("Get of two columns = %v, want %v", columns, want)
		}
	})
}

func firstRow(f DataFrame) DataFrame {
	firstValue := func(c Column) Column {
		switch v := c.Values.(type) {
		case Times:
			v.Counts = v.Counts[:1]
			c.Values = v
		case Durations:
			v.Counts = v.Counts[:1]
			c.Values = v
		default:
			c.Values = reflect.ValueOf(v).Slice(0, 1).Interface()
		}
		return c
	}
	row := DataFrame{Index: firstValue(f.Index)}
	for _, c := range f.Columns {
		row.Columns = append(row.Columns, firstValue(c))
	}
	return row
}

func benchCodec[T any](b *testing.B, name string, c ValueCodec[T], v T) {
	data := must.Get(c.Encode(nil, v))(b)
	b.Run(name+"/encode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		buf := make([]byte, 0, 2*len(data))
		for b.Loop() {
			must.Get(c.Encode(buf, v))(b)
		}
	})
	b.Run(name+"/decode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			must.Get(c.Decode(data))(b)
		}
	})
}

// BenchmarkPandasBlocks uses the columns of blocks.py, and measures encoded bytes per second.
func BenchmarkPandasBlocks(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		ints, shorts, floats, texts := make([]int64, n), make([]int32, n), make([]float64, n), make([]any, n)
		names := []any{"alpha", "beta", "gamma"}
		for i := range n {
			ints[i], shorts[i], floats[i], texts[i] = int64(i), int32(i*7919%1000), float64(i)*0.618, names[i%3]
		}
		d := DataFrame{Columns: []Column{
			{"i", ints}, {"j", shorts}, {"x", floats}, {"y", floats}, {"t", Times{"ns", "", ints}}, {"s", texts},
		}}
		benchCodec(b, fmt.Sprint("objects of ", n), PandasBlocks(nil), d)
		d.Columns[5].Values = Texts{Values: asTexts(texts)}
		benchCodec(b, fmt.Sprint("str of ", n), PandasBlocks(nil), d)
		benchCodec(b, fmt.Sprint("compressed of ", n), PandasBlocks(&PandasOptions{Blosc: true, Snappy: true}), d)
	}
}

func asTexts(objects []any) []string {
	texts := make([]string, len(objects))
	for i, o := range objects {
		texts[i], _ = o.(string)
	}
	return texts
}
