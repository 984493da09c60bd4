package encode

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

// pandasPeers are environments of .ci/peers: pandas 2 and 3, with and without compression packages.
var pandasPeers = []string{"python", "pytables", "pandas3", "dask"}

// withPandas runs a test in each environment. The test receives the names of the environment's
// compression packages, and run, which executes blocks.py there.
func withPandas(t *testing.T, peers []string, test func(t *testing.T, packages string, run func(args ...string) string)) {
	t.Helper()
	dir := os.Getenv("PARTD_PEERS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		must(t, err)
		dir = filepath.Join(cache, "partd-peers")
	}
	for _, peer := range peers {
		t.Run(peer, func(t *testing.T) {
			program := filepath.Join(dir, peer, "bin", "python")
			if _, err := os.Stat(program); err != nil {
				if os.Getenv("PARTD_REQUIRE_ALL") != "" {
					t.Fatalf("PARTD_REQUIRE_ALL is set, and this test needs %s: run .ci/peers to create it", program)
				}
				t.Skipf("this test needs %s: run .ci/peers to create it", program)
			}
			run := func(args ...string) string {
				t.Helper()
				out, err := exec.Command(program, append([]string{"testdata/blocks.py"}, args...)...).CombinedOutput()
				if err != nil {
					t.Fatalf("blocks.py %v: %v\n%s", args, err, out)
				}
				return string(out)
			}
			test(t, run("has"), run)
		})
	}
}

func pandasStore(t *testing.T, dir, packages string) *Store[DataFrame] {
	t.Helper()
	return New(openFile(t, dir), PandasBlocks(&PandasOptions{Blosc: strings.Contains(packages, "blosc"), Snappy: strings.Contains(packages, "snappy")}))
}

// TestPandasBlocks checks that pandas reads the same frames from Go's copies as from its own files.
func TestPandasBlocks(t *testing.T) {
	withPandas(t, pandasPeers, func(t *testing.T, packages string, run func(...string) string) {
		pythonDir, goDir := t.TempDir(), t.TempDir()
		run("write", pythonDir)
		source, target := pandasStore(t, pythonDir, packages), pandasStore(t, goDir, packages)
		for info, err := range partd.Keys(t.Context(), source.Unwrap()) {
			must(t, err)
			if strings.HasPrefix(info.Key, "refused ") {
				continue
			}
			n := 0
			for f, err := range source.All(t.Context(), info.Key) {
				if err != nil {
					t.Fatal(err)
				}
				n += f.Rows()
				must(t, target.Append(t.Context(), Entry[DataFrame]{info.Key, f}))
			}
			frame, err := source.Get(t.Context(), info.Key)
			must(t, err)
			if frame[0].Rows() != n {
				t.Errorf("%s: Get returns %d rows, but All yields %d", info.Key, frame[0].Rows(), n)
			}
		}
		if out := run("check", goDir); out != "done\n" {
			t.Fatalf("blocks.py check printed %s", out)
		}
	})
}

func TestPandasUnsupportedFrames(t *testing.T) {
	withPandas(t, pandasPeers, func(t *testing.T, packages string, run func(...string) string) {
		dir := t.TempDir()
		run("write", dir)
		source := pandasStore(t, dir, packages)
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
			var decodeErr *DecodeError
			if !errors.As(err, &decodeErr) || !strings.Contains(err.Error(), want) {
				t.Errorf("Get of the frame %q = %v, want a DecodeError with %q", name, err, want)
			}
		}
	})
}

// TestPandasColumns checks that Python and Go can append to, and read, the same keys of a server.
func TestPandasColumns(t *testing.T) {
	withPandas(t, []string{"python", "pandas3"}, func(t *testing.T, packages string, run func(...string) string) {
		url := serve(t)
		run("columns-write", url)
		s := NewPandasColumns(dial(t, url), &PandasOptions{Msgpack: strings.Contains(packages, "msgpack")})
		names := map[string]bool{}
		for info, err := range partd.Keys(t.Context(), s.Unwrap()) {
			must(t, err)
			name, _, _ := strings.Cut(info.Key, "-|-")
			names[name] = true
		}
		for name := range names {
			f, err := s.Get(t.Context(), name)
			must(t, err)
			must(t, s.Append(t.Context(), Entry[DataFrame]{"go_" + name, f}, Entry[DataFrame]{"go_" + name, f}))
			must(t, s.Append(t.Context(), Entry[DataFrame]{name, firstRow(f)}))
		}
		if out := run("columns-check", url); out != "done\n" || len(names) < 10 {
			t.Fatalf("with %d frames, want at least 10, blocks.py columns-check printed %s", len(names), out)
		}
		columns, err := s.Get(t.Context(), "wide", "d", "a")
		must(t, err)
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
