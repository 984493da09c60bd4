package benchdata

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"io"
	"strconv"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func generate(t *testing.T, o CSVOptions) (data []byte, rows [][]string) {
	t.Helper()
	var b bytes.Buffer
	must.Do(t, WriteCSV(&b, o))
	rows = must.Get(csv.NewReader(bytes.NewReader(b.Bytes())).ReadAll())(t)
	return b.Bytes(), rows[1:]
}

func TestRows(t *testing.T) {
	for _, o := range []CSVOptions{
		{Rows: 50_000, Keys: 1000, Seed: 1},
		{Rows: 50_000, Keys: 1000, Seed: 1, Quoted: true},
		{Rows: 1000, Keys: 1, Dist: "zipf"},
		{Rows: 1000, Keys: 1, Dist: "half"},
		{Rows: 1, Keys: 1},
	} {
		data, rows := generate(t, o)
		if int64(len(rows)) != o.Rows {
			t.Fatalf("%+v: Write wrote %d rows, want %d", o, len(rows), o.Rows)
		}
		for i, line := range bytes.SplitAfter(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))[1:] {
			if n := len(bytes.TrimSuffix(line, []byte("\n"))) + 1; n < shortest || n > longest {
				t.Fatalf("%+v: row %d has %d bytes, want %d to %d: %q", o, i, n, shortest, longest, line)
			}
		}
		for i, row := range rows {
			if row[0] != strconv.Itoa(i) {
				t.Fatalf("%+v: row %d has id %s, want %d", o, i, row[0], i)
			}
			if n, err := strconv.ParseUint(row[1][1:], 10, 64); err != nil || n >= uint64(o.Keys) {
				t.Fatalf("%+v: row %d has key %s, want a number below %d after the first letter", o, i, row[1], o.Keys)
			}
		}
	}
	if data, _ := generate(t, CSVOptions{Keys: 1}); string(data) != CSVHeader {
		t.Fatalf("a file without rows is %q, want only the header", data)
	}
}

func TestDistributions(t *testing.T) {
	share := func(o CSVOptions) (first float64, keys int) {
		_, rows := generate(t, o)
		counts := map[string]int{}
		for _, row := range rows {
			counts[row[1]]++
		}
		return float64(counts["k0"]) / float64(len(rows)), len(counts)
	}
	for _, c := range []struct {
		dist      string
		low, high float64
		keys      int
	}{
		{"uniform", 0.005, 0.02, 100},
		{"half", 0.47, 0.53, 100},
		{"zipf", 0.15, 0.4, 100},
	} {
		first, keys := share(CSVOptions{Rows: 20_000, Keys: 100, Dist: c.dist, Seed: 7})
		if first < c.low || first > c.high || keys != c.keys {
			t.Errorf("%s: key k0, one of %d keys, is in %.3f of the rows, want %.3f to %.3f", c.dist, keys, first, c.low, c.high)
		}
	}
}

// TestSameFileForSeed checks that the same seed always gives the same file, because benchmark results must stay
// comparable.
func TestSameFileForSeed(t *testing.T) {
	for _, c := range []struct{ dist, want string }{
		{"uniform", "58e39cb72f1d2c5f"},
		{"zipf", "fc0c6854da3c828b"},
		{"half", "2a0f2f84c7a24006"},
	} {
		data, _ := generate(t, CSVOptions{Rows: 10_000, Keys: 100, Dist: c.dist, Seed: 42, Quoted: true})
		sum := sha256.Sum256(data)
		if got := hex.EncodeToString(sum[:8]); got != c.want {
			t.Errorf("%s: the file has the hash %s, want %s", c.dist, got, c.want)
		}
	}
	a, _ := generate(t, CSVOptions{Rows: 100, Keys: 100, Seed: 1})
	b, _ := generate(t, CSVOptions{Rows: 100, Keys: 100, Seed: 2})
	if bytes.Equal(a, b) {
		t.Error("different seeds give the same rows")
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []CSVOptions{{Rows: -1, Keys: 1}, {Rows: 1}, {Rows: 1, Keys: 1, Dist: "normal"}} {
		if WriteCSV(io.Discard, o) == nil {
			t.Errorf("Write accepted %+v", o)
		}
	}
}
