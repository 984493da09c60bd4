package benchdata

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func generate(t *testing.T, o CSVOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	must.Do(t, WriteCSV(&b, o))
	return b.Bytes()
}

// TestSameFileForSeed checks that the same seed always gives the same file, because benchmark results must stay
// comparable.
func TestSameFileForSeed(t *testing.T) {
	for _, c := range []struct{ dist, want string }{
		{"uniform", "58e39cb72f1d2c5f"},
		{"zipf", "fc0c6854da3c828b"},
		{"half", "2a0f2f84c7a24006"},
	} {
		data := generate(t, CSVOptions{Rows: 10_000, Keys: 100, Dist: c.dist, Seed: 42, Quoted: true})
		sum := sha256.Sum256(data)
		if got := hex.EncodeToString(sum[:8]); got != c.want {
			t.Errorf("%s: the file has the hash %s, want %s", c.dist, got, c.want)
		}
	}
	if bytes.Equal(generate(t, CSVOptions{Rows: 100, Keys: 100, Seed: 1}), generate(t, CSVOptions{Rows: 100, Keys: 100, Seed: 2})) {
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

func TestAppendFigures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.jsonl")
	figure := Figure{Bench: "b", Job: "sort", Contender: "partd", Unit: "s"}.WithRuns([]float64{3, 1, 2})
	other := Figure{Bench: "b", Job: "sort", Contender: "other", Unit: "s", Problem: "out of memory"}.WithRuns(nil)
	for _, f := range []Figure{figure, other} {
		must.Do(t, AppendFigures(path, f))
	}
	got, err := os.ReadFile(path)
	want := `{"bench":"b","job":"sort","who":"partd","value":2,"least":1,"most":3,"unit":"s","runs":3}
{"bench":"b","job":"sort","who":"other","value":0,"unit":"s","runs":0,"problem":"out of memory"}
`
	if err != nil || string(got) != want {
		t.Errorf("reading the file: got error %v and\n%s\nwant\n%s", err, got, want)
	}
	if err := AppendFigures("", figure); err != nil {
		t.Error("AppendFigures without a path:", err)
	}
}
